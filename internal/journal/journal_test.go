package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

var (
	began = time.Date(2026, 11, 21, 21, 0, 0, 5, time.UTC)
	head  = Header{Tool: "quaymaster <1>", Command: "push", Run: "20261121T210000Z-0a0b0c0d", Started: began}
	one   = []byte(`{"one":"<&>"}`)
	two   = []byte(`{"two":2}`)
)

const typ = oci.MediaTypeIndex

func present(raw []byte) State { return State{Digest: digest.FromBytes(raw), MediaType: typ} }

// story writes a run of three tags, and a rollback of one.
func story(t *testing.T, j *Journal) {
	t.Helper()
	n := 0
	intent := func(ref string, a Action, d oci.Digest, expires time.Time) error {
		var err error
		n, err = j.Intent(ref, a, d, expires)
		return err
	}
	steps := []func() error{
		func() error { return j.Snapshot("host.example/a:1", present(one), one) },
		func() error { return j.Snapshot("host.example/a:2", State{Absent: true}, nil) },
		func() error { return j.Snapshot("host.example/b:1", present(two), two) },
		func() error { return j.Snapshot("host.example/b:1", present(one), one) }, // somebody moved it
		func() error { return j.Snapshot("host.example/c:never-written", present(two), two) },
		func() error { return intent("host.example/a:1", Put, digest.FromBytes(two), time.Time{}) },
		func() error { return j.Done(n) },
		func() error { return intent("host.example/a:2", Put, digest.FromBytes(two), time.Time{}) },
		func() error { return j.Snapshot("host.example/b:1", present(one), one) },
		func() error { return intent("host.example/b:1", Delete, "", began) },
		func() error { return j.Snapshot("host.example/a:1", present(two), two) }, // what the run itself wrote
		func() error { return intent("host.example/a:1", Put, digest.FromBytes([]byte("3")), time.Time{}) },
		func() error { return j.Undone("host.example/a:2", Deleted) },
		func() error { return j.End("incomplete") },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

// told is what the story says.
var told = []Tag{
	{Ref: ref("a", "1"), Before: present(one), Wrote: []oci.Digest{digest.FromBytes(two), digest.FromBytes([]byte("3"))}, Open: true, Last: 4},
	{Ref: ref("b", "1"), Before: State{Digest: digest.FromBytes(one), MediaType: typ, Expires: began}, Deleted: true, Open: true, Last: 3},
	{Ref: ref("a", "2"), Before: State{Absent: true}, Wrote: []oci.Digest{digest.FromBytes(two)}, Open: true, Last: 2, Outcome: Deleted},
}

func ref(repo, tag string) oci.Ref {
	return oci.Ref{Registry: "host.example", Repository: repo, Tag: tag}
}

func written(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "journal")
	j, err := Create(path, head)
	if err != nil {
		t.Fatal(err)
	}
	story(t, j)
	check(t, j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func check(t *testing.T, j *Journal) {
	t.Helper()
	if got := j.Written(); !reflect.DeepEqual(got, told) {
		t.Errorf("it tells %+v,\nwant %+v", got, told)
	}
	for _, raw := range [][]byte{one, two} {
		if got, err := j.Content(digest.FromBytes(raw)); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("got %q, %v, want %q", got, err, raw)
		}
	}
	if _, err := j.Content(digest.FromBytes([]byte("3"))); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if all, done := j.Intents(); all != 4 || done != 1 || j.Header() != head || j.Status() != "incomplete" {
		t.Errorf("%d intents, %d done, %+v, %q", all, done, j.Header(), j.Status())
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := written(t)
	for name, open := range map[string]func(string) (*Journal, error){"open": Open, "look": Look} {
		t.Run(name, func(t *testing.T) {
			j, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			check(t, j)
		})
	}
	t.Run("in memory", func(t *testing.T) {
		j, err := New(head)
		if err != nil {
			t.Fatal(err)
		}
		story(t, j)
		check(t, j)
	})
}

func TestFileIsItsOwners(t *testing.T) {
	path := written(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	before, _ := os.ReadFile(path)
	if _, err := Create(path, head); !errors.Is(err, oci.ErrUsage) {
		t.Errorf("a second run: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the second run wrote into it")
	}
}

// A process may die at any byte: what is there up to the last whole line counts, and
// a journal that was torn can be gone on with.
func TestTornAtEveryByte(t *testing.T) {
	raw, err := os.ReadFile(written(t))
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(raw, '\n') + 1
	for n := range raw {
		j, err := read(&memory{b: raw[:n]})
		switch whole := bytes.LastIndexByte(raw[:n], '\n') + 1; {
		case n < first && !errors.Is(err, oci.ErrInvalid):
			t.Errorf("%d bytes, which is no header: %v", n, err)
		case n >= first && (err != nil || j.size != int64(whole)):
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	path := filepath.Join(t.TempDir(), "torn")
	for _, n := range []int{first, first + 1, len(raw) - 1} {
		if err := os.WriteFile(path, raw[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.End("gone on"), j.Close()); err != nil {
			t.Fatal(err)
		}
		whole := raw[:bytes.LastIndexByte(raw[:n], '\n')+1]
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, append(slices.Clone(whole), `{"kind":"end","status":"gone on"}`+"\n"...)) {
			t.Errorf("%d bytes: it goes on as %q, %v", n, got, err)
		}
	}
}

// Any other change is noticed, in whatever line.
func TestEditedJournalIsRefused(t *testing.T) {
	raw, err := os.ReadFile(written(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
	edit := func(old, with string) string {
		if !strings.Contains(string(raw), old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(string(raw), old, with, 1)
	}
	without := func(n int) string { return strings.Join(slices.Delete(slices.Clone(lines), n, n+1), "") + "\n" }
	d1, d2 := digest.FromBytes(one).String(), digest.FromBytes(two).String()
	tests := map[string]string{
		"no header":                         without(0),
		"two headers":                       lines[0] + string(raw),
		"another version":                   edit(`"version":1`, `"version":2`),
		"another's bytes":                   edit(d1, d2),
		"a digest that is none":             edit(`"digest":"`+d1, `"digest":"sha256:../../x`),
		"no bytes":                          without(1),
		"no snapshot":                       without(3),
		"another tag":                       edit(`"n":1,"ref":"host.example/a:1"`, `"n":1,"ref":"host.example/a:9"`),
		"a reference without a tag":         edit(`"ref":"host.example/a:1"`, `"ref":"host.example/a"`),
		"a reference with a digest":         edit(`"ref":"host.example/a:1"`, `"ref":"host.example/a:1@`+d1+`"`),
		"a reference without a host":        edit(`"ref":"host.example/a:1"`, `"ref":"a:1"`),
		"a reference that climbs":           edit(`"ref":"host.example/a:1"`, `"ref":"host.example/../a:1"`),
		"a type that is none":               edit(typ, "text/html"),
		"an unknown key":                    edit(`"kind":"done"`, `"kind":"done","why":"x"`),
		"a key of another kind":             edit(`{"kind":"done"`, `{"kind":"done","ref":"host.example/a:1"`),
		"a key twice":                       edit(`{"kind":"done"`, `{"kind":"done","kind":"done"`),
		"a key in another case":             edit(`"kind":"done"`, `"Kind":"done"`),
		"white space":                       edit(`"kind":"done"`, `"kind": "done"`),
		"an unknown kind":                   edit(`"kind":"done"`, `"kind":"dune"`),
		"an unknown action":                 edit(`"action":"put"`, `"action":"pat"`),
		"an unknown outcome":                edit(`"outcome":"deleted"`, `"outcome":"gone"`),
		"a put of nothing":                  edit(`"action":"put","digest":"`+d2+`"`, `"action":"put"`),
		"a number that is left out":         edit(`"n":2`, `"n":3`),
		"done before it is meant":           edit(`"kind":"done","n":1`, `"kind":"done","n":4`),
		"undone that wasn't written":        edit(`"kind":"undone","ref":"host.example/a:2"`, `"kind":"undone","ref":"host.example/c:never-written"`),
		"absent and there":                  edit(`"absent":true`, `"absent":true,"digest":"`+d1+`"`),
		"an empty line":                     edit("\n", "\n\n"),
		"a torn line in the middle":         edit(`"}`+"\n", "\n"),
		"a header with a control character": edit(`"tool":"`, `"tool":"\u001b`),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := read(&memory{b: []byte(text)}); !errors.Is(err, oci.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLineThatIsTooLong(t *testing.T) {
	raw, err := os.ReadFile(written(t))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw) + `{"kind":"` + strings.Repeat("x", maxLine) + "\n"
	if _, err := read(&memory{b: []byte(text)}); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// The largest manifest fits.
func TestLargestManifest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := Create(path, head)
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte(" "), oci.MaxManifestSize)
	if err := errors.Join(j.Snapshot("host.example/a:1", present(big), big), j.Close()); err != nil {
		t.Fatal(err)
	}
	if j, err = Look(path); err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if got, err := j.Content(digest.FromBytes(big)); err != nil || len(got) != len(big) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// What can't be read again isn't written.
func TestWrongLinesAreNotWritten(t *testing.T) {
	j, err := New(head)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Snapshot("host.example/a:1", present(one), one); err != nil {
		t.Fatal(err)
	}
	size := j.size
	_, putErr := j.Intent("host.example/b:1", Put, digest.FromBytes(one), time.Time{})
	for i, err := range []error{
		putErr,
		j.Snapshot("host.example/a", State{Absent: true}, nil),
		j.Snapshot("host.example/a:2", present(two), one),
		j.Snapshot("host.example/a:2", State{Digest: digest.FromBytes(one), MediaType: "text/plain"}, one),
		j.Done(1),
		j.Undone("host.example/a:1", Restored),
		j.End("a\nb"),
	} {
		if !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%d: got %v", i, err)
		}
	}
	if j.size != size {
		t.Errorf("%d bytes were written", j.size-size)
	}
	if _, err := New(Header{Tool: "x"}); err == nil {
		t.Error("a header of nothing was written")
	}
}

// After an error of the disk nothing more is written: it would stand behind a torn
// line.
func TestBrokenFile(t *testing.T) {
	full := errors.New("no space left on device")
	f := &breaking{}
	j, err := start(f, "", head)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Snapshot("host.example/a:1", present(one), one); err != nil {
		t.Fatal(err)
	}
	f.sync = full
	if _, err := j.Intent("host.example/a:1", Put, digest.FromBytes(two), time.Time{}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	f.sync = nil
	if _, err := j.Intent("host.example/a:1", Put, digest.FromBytes(two), time.Time{}); !errors.Is(err, full) {
		t.Errorf("then got %v", err)
	}
	f, j = &breaking{}, nil
	if j, err = start(f, "", head); err != nil {
		t.Fatal(err)
	}
	f.write = full
	if err := j.Snapshot("host.example/a:1", present(one), one); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	f.write = nil
	if err := j.End("done"); !errors.Is(err, full) {
		t.Errorf("then got %v", err)
	}
}

type breaking struct {
	memory
	write, sync error
	synced      int
}

func (b *breaking) WriteAt(p []byte, off int64) (int, error) {
	if b.write != nil {
		return 0, b.write
	}
	return b.memory.WriteAt(p, off)
}

func (b *breaking) Sync() error {
	b.synced = len(b.b)
	return b.sync
}

// An intent is on the disk when it is returned, with all that was before it.
func TestIntentsAreSynced(t *testing.T) {
	f := &breaking{}
	j, err := start(f, "", head)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		name := fmt.Sprintf("host.example/a:%d", i)
		if err := j.Snapshot(name, present(one), one); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Intent(name, Put, digest.FromBytes(two), time.Time{}); err != nil || f.synced != len(f.b) {
			t.Errorf("%d of %d bytes are on the disk, %v", f.synced, len(f.b), err)
		}
	}
}
