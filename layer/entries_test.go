package layer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/need"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// rawEntry is a ustar header by hand, and what is behind it, padded.
func rawEntry(name string, flag byte, size int64, data string) string {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 1700000000))
	copy(b[148:], "        ")
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(b) + data + strings.Repeat("\x00", (512-len(data)%512)%512)
}

// pax is a PAX header of records, key and value in turn.
func pax(flag byte, records ...string) string {
	var b strings.Builder
	for i := 0; i < len(records); i += 2 {
		rec := " " + records[i] + "=" + records[i+1] + "\n"
		n := len(rec) + 1
		for len(strconv.Itoa(n))+len(rec) != n {
			n = len(strconv.Itoa(n)) + len(rec)
		}
		b.WriteString(strconv.Itoa(n) + rec)
	}
	return rawEntry("pax", flag, int64(b.Len()), b.String())
}

func plainEntry(name, data string) string { return rawEntry(name, '0', int64(len(data)), data) }

const ending = 1024

var endMarker = strings.Repeat("\x00", ending)

// sparse is an empty sparse file of size bytes in the format PAX 1.0.
func sparse(name string, size int64) string {
	return pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", name, "GNU.sparse.realsize", strconv.FormatInt(size, 10)) +
		plainEntry("GNUSparseFile.0/"+name, "0\n"+strings.Repeat("\x00", 510))
}

// walk gives what Walk saw, bodies read.
func walk(t testing.TB, blob []byte, opt layer.Options) ([]file, layer.Tar, error) {
	var files []file
	got, err := layer.Walk(t.Context(), bytes.NewReader(blob), opt, func(e *oci.Entry) error {
		body, err := io.ReadAll(e.Body)
		files = append(files, file{*e.Header, string(body)})
		return err
	})
	return files, got, err
}

// TestCutOff: a tar that lacks a part of an entry is never taken for whole. The
// blob's digest can't tell, for it is that of the part. What lacks its end marker,
// and perhaps what fills the last block, is whole.
func TestCutOff(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	parts := []struct {
		raw     string
		padding int
	}{
		{rawEntry("etc/", '5', 0, ""), 0},
		{plainEntry("etc/motd", "hello"), 507},
		{plainEntry("zeros", zeros(1500)), 36},
		{plainEntry("blocks", zeros(1024)), 0},
		{pax('x', "comment", "c") + plainEntry("pax", "x"), 511},
		{rawEntry("././@LongLink", 'L', 4, "abc\x00") + plainEntry("long", ""), 0},
		{plainEntry("empty", ""), 0},
	}
	whole, part := "", make([]int, 1) // by how many bytes there are: which one the last is in
	for i, p := range parts {
		whole += p.raw
		for len(part) <= len(whole) {
			part = append(part, i)
		}
	}
	mark := len(whole)
	whole += endMarker
	for n, end := 1, 0; n < len(whole); n++ {
		entries, ok := len(parts), n == mark+512 // one block of zeros is an end that many take
		if n <= mark {
			p := parts[part[n]]
			if n == 1 || part[n] != part[n-1] {
				end += len(p.raw)
			}
			entries, ok = part[n]+1, n >= end-p.padding
		}
		if n%512 > 3 && n%512 < 509 && n%100 != 0 {
			continue
		}
		files, got, err := walk(t, []byte(whole[:n]), layer.Options{})
		_, unread := layer.Walk(t.Context(), strings.NewReader(whole[:n]), layer.Options{}, func(*oci.Entry) error { return nil })
		out, raw, _, pass := run(t, gz(t, []byte(whole[:n])), layer.PassOptions{Codec: layer.None}, filter{})
		for _, err := range []error{err, unread, pass} {
			if ok != (err == nil) || !ok && !errors.Is(err, oci.ErrInvalid) {
				t.Fatalf("%d of %d bytes: got %v, want that it is read: %v", n, len(whole), err, ok)
			}
		}
		if !ok {
			continue
		}
		if len(files) != entries || got.DiffID != digest.FromString(whole[:n]) || out.Source.DiffID != got.DiffID || !out.Unchanged {
			t.Errorf("%d of %d bytes: %d entries, want %d; %+v, %+v", n, len(whole), len(files), entries, got, out)
		}
		if !bytes.HasSuffix(raw, []byte(endMarker)) {
			t.Errorf("%d of %d bytes: what the pass wrote has no end marker", n, len(whole))
		}
	}
}

func TestWalk(t *testing.T) {
	hidden := plainEntry("hidden", "you don't see me")
	const tib = 1 << 40
	tests := []struct {
		name string
		in   string
		opt  layer.Options
		want string
		kind error
	}{
		{"nothing", "", layer.Options{}, "", nil},
		{"no end", plainEntry("a", "A"), layer.Options{}, "a: A\n", nil},
		{"no padding", plainEntry("a", "A")[:513], layer.Options{}, "a: A\n", nil},
		{"half a body", plainEntry("a", "AB")[:513], layer.Options{}, "a: A\n", oci.ErrInvalid},
		{"a PAX header for nothing", plainEntry("a", "A") + pax('x', "path", "b"), layer.Options{}, "a: A\n", oci.ErrInvalid},
		{"a PAX header alone", pax('x', "path", "b"), layer.Options{}, "", oci.ErrInvalid},
		{"no end behind a global header", plainEntry("a", "A") + pax('g', "comment", "c"), layer.Options{}, "a: A\n", nil},
		{"no end behind a sparse file", plainEntry("a", "A") + sparse("s", 0), layer.Options{}, "a: A\ns\n", oci.ErrInvalid},
		{"an end", endMarker, layer.Options{}, "", nil},
		{"entries behind the end", plainEntry("a", "A") + endMarker + hidden, layer.Options{}, "a: A\n", nil},
		{"junk behind the end", plainEntry("a", "A") + endMarker + "junk", layer.Options{}, "a: A\n", nil},
		{"a corrupt header", plainEntry("a", "A") + strings.Replace(plainEntry("b", "B"), "b", "c", 1) + endMarker, layer.Options{}, "a: A\n", oci.ErrInvalid},
		{"a block of zeros in between", plainEntry("a", "A") + strings.Repeat("\x00", 512) + hidden + endMarker, layer.Options{}, "a: A\n", oci.ErrInvalid},
		{"no tar", strings.Repeat("no tar", 500), layer.Options{}, "", oci.ErrInvalid},
		{"an archive in a body, by the PAX size", pax('x', "size", "1024") + rawEntry("a", '0', 0, hidden) + plainEntry("b", "B") + endMarker, layer.Options{}, "a: " + hidden + "\nb: B\n", nil},
		{"an archive behind a body, by the PAX size", pax('x', "size", "0") + rawEntry("a", '0', 1024, "") + plainEntry("b", "B") + endMarker, layer.Options{}, "a\nb: B\n", nil},
		{"PAX names beat the others", pax('x', "path", "b", "linkpath", "c") + rawEntry("a", '2', 0, "") + endMarker, layer.Options{}, "b -> c\n", nil},
		{"a hard link with a size", rawEntry("a", '1', 512, "") + plainEntry("b", "B") + endMarker, layer.Options{}, "a => \nb: B\n", nil},
		{"a global header", pax('g', "path", "x", "comment", "hi") + plainEntry("a", "A") + endMarker, layer.Options{}, "a: A\n", nil},
		{"a PAX record of 2 MiB", pax('x', "comment", strings.Repeat("x", 2<<20)) + plainEntry("a", "A") + endMarker, layer.Options{}, "", oci.ErrInvalid},
		{"a long name of 2 MiB", rawEntry("././@LongLink", 'L', 2<<20, strings.Repeat("x", 2<<20)) + plainEntry("a", "A") + endMarker, layer.Options{}, "", oci.ErrInvalid},
		{"a sparse map of 2 MiB", pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9") + plainEntry("s", "300000\n"+strings.Repeat("0\n", 1<<20)) + endMarker, layer.Options{}, "", oci.ErrInvalid},
		{"a sparse file", sparse("s", 5) + plainEntry("a", "A") + endMarker, layer.Options{}, "s: \x00\x00\x00\x00\x00\na: A\n", nil},
		{"a sparse file of 8 TiB", sparse("s", 8*tib) + plainEntry("a", "A") + endMarker, layer.Options{}, "s\n", oci.ErrTooLarge},
		{"sparse files of 2 GiB are a bomb", sparse("s", 2<<30) + plainEntry("a", "A") + endMarker, layer.Options{}, "s\n", oci.ErrTooLarge},
		{"two sparse files, the limit between", sparse("r", 3) + sparse("s", 10_000) + endMarker, layer.Options{MaxBytes: 10_000}, "r: \x00\x00\x00\ns\n", oci.ErrTooLarge},
		{"as many entries as allowed", plainEntry("a", "A") + plainEntry("b", "B") + endMarker, layer.Options{MaxEntries: 2}, "a: A\nb: B\n", nil},
		{"one more", plainEntry("a", "A") + plainEntry("b", "B") + endMarker, layer.Options{MaxEntries: 1}, "a: A\n", oci.ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, got, err := walk(t, gz(t, []byte(tt.in)), tt.opt)
			if listing(files) != tt.want || !errors.Is(err, tt.kind) || (tt.kind == nil) != (err == nil) {
				t.Fatalf("got %v and\n%.300s", err, listing(files))
			}
			if want := (layer.Tar{DiffID: digest.FromString(tt.in), Size: int64(len(tt.in)), Codec: layer.Gzip, Entries: int64(len(files))}); err == nil && got != want && !strings.Contains(tt.name, "global") {
				t.Errorf("got %+v, want %+v", got, want)
			}
			// The pass agrees, and what it writes is another tar of the same.
			out, raw, _, err := run(t, gz(t, []byte(tt.in)), layer.PassOptions{Limits: tt.opt}, filter{})
			if !errors.Is(err, tt.kind) || (tt.kind == nil) != (err == nil) {
				t.Fatalf("pass: %v", err)
			}
			if err == nil && (!out.Unchanged || out.Source.DiffID != digest.FromString(tt.in)) {
				t.Errorf("pass: got %+v", out)
			}
			if err == nil {
				again, _, err := walk(t, raw, layer.Options{})
				if err != nil || listing(again) != tt.want {
					t.Errorf("pass: %v and\n%.300s", err, listing(again))
				}
			}
		})
	}
}

// TestSparseUnread: what isn't read needs no room, so nothing is refused.
func TestSparseUnread(t *testing.T) {
	in := sparse("s", 8<<40) + plainEntry("a", "A") + endMarker
	got, err := layer.Walk(t.Context(), strings.NewReader(in), layer.Options{}, func(*oci.Entry) error { return nil })
	if err != nil || got.Entries != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, raw, _, err := run(t, []byte(in), layer.PassOptions{}, drop("s")); err != nil || listing(unpack(t, raw)) != "a: A\n" {
		t.Errorf("dropped: got %v", err)
	}
}

// TestGNUTar reads sparse files and long names as GNU tar writes them.
func TestGNUTar(t *testing.T) {
	tarProgram := need.Program(t, "tar")
	at := t.TempDir()
	holes := make([]byte, 3<<20)
	copy(holes[1<<20:], "in the middle")
	copy(holes[3<<20-4:], "end.")
	long := strings.Repeat("d/", 60) + strings.Repeat("n", 150)
	if err := os.MkdirAll(filepath.Join(at, filepath.Dir(long)), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"plain": "hello", long: "long", "h\u00e4h": "non-ASCII"} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(at, "holes"))
	if err == nil {
		err = f.Truncate(int64(len(holes)))
		_, err1 := f.WriteAt([]byte("in the middle"), 1<<20)
		_, err2 := f.WriteAt([]byte("end."), 3<<20-4)
		err = errors.Join(err, err1, err2, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Link(filepath.Join(at, "holes"), filepath.Join(at, "z-link")), os.Symlink(long, filepath.Join(at, "symlink"))); err != nil {
		t.Fatal(err)
	}
	for _, format := range [][]string{{"--format=gnu"}, {"--format=posix", "--sparse-version=0.0"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=1.0"}} {
		args := append([]string{"-S", "--sort=name", "-C", at, "-cf", "-"}, format...)
		raw, err := exec.Command(tarProgram, append(args, ".")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(raw, []byte("in the middle")) || len(raw) > 2<<20 {
			t.Fatalf("%v: the tar of %d bytes isn't sparse", format, len(raw))
		}
		got, out, _, err := run(t, gz(t, raw), layer.PassOptions{}, edit(func(h *tar.Header) { h.Uid, h.Gid = 1, 1 }))
		if err != nil {
			t.Fatalf("%v: %v", format, err)
		}
		want, have := unpack(t, raw), unpack(t, out)
		if listing(want) != listing(have) || got.Unchanged {
			t.Errorf("%v: unchanged %v, got\n%.2000s", format, got.Unchanged, listing(have))
		}
		for _, f := range have {
			for k := range f.h.PAXRecords {
				if strings.HasPrefix(k, "GNU.sparse.") {
					t.Errorf("%v: %s has %s", format, f.h.Name, k)
				}
			}
		}
		// GNU tar reads what was written, and finds what is on disk.
		cmd := exec.Command(tarProgram, "-C", at, "--compare", "-f", "-")
		cmd.Stdin = bytes.NewReader(out)
		said, _ := cmd.CombinedOutput() // its status tells of the owners that were changed
		for _, line := range strings.Split(strings.TrimSpace(string(said)), "\n") {
			if i := strings.LastIndex(line, ": "); line != "" && line[i+1:] != " Uid differs" && line[i+1:] != " Gid differs" &&
				(line[i+1:] != " Mod time differs" || format[0] != "--format=gnu") { // which has whole seconds only
				t.Errorf("%v: tar --compare: %s", format, line)
			}
		}
		if got, _, _, err := run(t, gz(t, raw), layer.PassOptions{}, filter{}); err != nil || !got.Unchanged {
			t.Errorf("%v: nothing to do: %+v, %v", format, got, err)
		}
	}
}

// TestWhyItIsDamaged: bytes that aren't the blob's are that, whatever they look like.
func TestWhyItIsDamaged(t *testing.T) {
	plain := pack(t, reg("a", strings.Repeat("A", 3000)))
	d := descriptor(gz(t, plain))
	for name, blob := range map[string][]byte{"gzip": append(gz(t, plain)[:40:40], make([]byte, d.Size-40)...), "no tar": bytes.Repeat([]byte("x"), int(d.Size))} {
		_, err := layer.Walk(t.Context(), oci.Verify(io.NopCloser(bytes.NewReader(blob)), d), layer.Options{}, nil)
		_, err2 := layer.NewPass(d, nil, layer.PassOptions{}).Run(t.Context(), io.Discard, oci.Verify(io.NopCloser(bytes.NewReader(blob)), d))
		if !errors.Is(err, oci.ErrDigestMismatch) || !errors.Is(err2, oci.ErrDigestMismatch) {
			t.Errorf("%s: got %v and %v", name, err, err2)
		}
	}
}

func TestWalkEnds(t *testing.T) {
	blob := gz(t, pack(t, reg("a", "A"), reg("b", "B")))
	enough := errors.New("enough")
	var first *oci.Entry
	seen := 0
	_, err := layer.Walk(t.Context(), bytes.NewReader(blob), layer.Options{}, func(e *oci.Entry) error {
		if seen++; seen == 1 {
			first = e
			return nil
		}
		if _, err := first.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a body can be read when its visit is over: %v", err)
		}
		return enough
	})
	if err != enough || seen != 2 {
		t.Errorf("got %v after %d", err, seen)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = layer.Walk(ctx, bytes.NewReader(gz(t, pack(t, reg("a", strings.Repeat("A", 1<<20))))), layer.Options{}, func(e *oci.Entry) error {
		cancel(enough)
		_, err := io.Copy(io.Discard, e.Body)
		return err
	})
	if !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}
