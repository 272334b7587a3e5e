package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

func TestManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := Create(path, head)
	if err != nil {
		t.Fatal(err)
	}
	const tags = 50
	var wg sync.WaitGroup
	for i := range tags {
		wg.Go(func() {
			name, raw := fmt.Sprintf("host.example/r%d:1", i), fmt.Appendf(nil, `{"n":%d}`, i%7)
			err := j.Snapshot(name, present(raw), raw)
			n, intentErr := j.Intent(name, Put, digest.FromBytes(two), time.Time{})
			_, contentErr := j.Content(digest.FromBytes(raw))
			if err := errors.Join(err, intentErr, contentErr, j.Done(n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = Look(path); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if all, done := j.Intents(); all != tags || done != tags || len(j.Written()) != tags {
		t.Errorf("%d intents, %d done", all, done)
	}
}

// Tags take the memory of their names, some 600 bytes each: 60 MiB for a hundred
// thousand. Content stays in the file, here 40 MiB of it.
func TestMemoryOfManyTags(t *testing.T) {
	const tags, size = 20_000, 1200
	path := filepath.Join(t.TempDir(), "journal")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	enc := json.NewEncoder(f)
	enc.SetEscapeHTML(true)
	lines := []line{headerLine(head)}
	raw := bytes.Repeat([]byte(" "), size)
	var last oci.Digest
	for i := range tags {
		copy(raw, fmt.Sprintf("%d", i))
		last = digest.FromBytes(raw)
		name := fmt.Sprintf("host.example/organisation/repository%d:1.2.3", i)
		lines = append(lines, contentLine(last, raw), snapshotLine(name, present(raw)), intentLine(i+1, name, Put, last, time.Time{}))
		for _, l := range lines {
			if err := enc.Encode(l); err != nil {
				t.Fatal(err)
			}
		}
		lines = lines[:0]
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := heap()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	grown := heap() - before
	if grown > 16<<20 {
		t.Errorf("%d tags take %d MiB", tags, grown>>20)
	}
	t.Logf("%d MiB of a file of %d", grown>>20, j.size>>20)
	if got, err := j.Content(last); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("got %.20q, %v", got, err)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Whatever a file holds, reading it ends in order, and what is taken from it is what
// it says: names that are tags, and bytes that are their digest's.
func FuzzRead(f *testing.F) {
	j, err := New(head)
	if err != nil {
		f.Fatal(err)
	}
	if err := j.Snapshot("host.example/a:1", present(one), one); err != nil {
		f.Fatal(err)
	}
	n, err := j.Intent("host.example/a:1", Put, digest.FromBytes(two), began)
	if err := errors.Join(err, j.Done(n), j.Undone("host.example/a:1", Restored), j.End("done")); err != nil {
		f.Fatal(err)
	}
	whole := j.file.(*memory).b
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte("{}\n"))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		j, err := read(&memory{b: raw})
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) && !errors.Is(err, oci.ErrTooLarge) {
				t.Errorf("got %v", err)
			}
			return
		}
		for _, tag := range j.Written() {
			if err := checkRef(tag.Ref.String()); err != nil {
				t.Error(err)
			}
			if tag.Before.Absent {
				continue
			}
			got, err := j.Content(tag.Before.Digest)
			if err != nil || tag.Before.Digest.Algorithm().FromBytes(got) != tag.Before.Digest || !oci.IsManifestType(tag.Before.MediaType) {
				t.Errorf("%s: %q, %v", tag.Ref, got, err)
			}
		}
		// What was read is all that there is: writing goes on right behind it.
		if j.size > int64(len(raw)) || j.size > 0 && raw[j.size-1] != '\n' {
			t.Errorf("it ends at byte %d of %d", j.size, len(raw))
		}
	})
}
