package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// FuzzPass: whatever the tar, a pass gives an error of a known kind or a tar
// that reads as the one that went in does; filters that do nothing change
// nothing; one that does something is noticed; and no two runs differ.
func FuzzPass(f *testing.F) {
	for _, in := range [][]byte{
		nil,
		pack(f, dir("etc/"), reg("etc/motd", "hello"), link("etc/m", "etc/motd")),
		pack(f, reg("a", "A"), link("b", "a"), link("c", "b"), reg("a", "B")),
		pack(f, file{tar.Header{Name: strings.Repeat("n", 200), Typeflag: tar.TypeSymlink, Linkname: "h\u00e4h", PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}, ""}),
		[]byte(sparse("s", 2000) + endMarker),
		[]byte(pax('g', "comment", "hi") + pax('x', "size", "3", "mtime", "-1.5") + rawEntry("a", '0', 0, "abc") + endMarker),
		[]byte(rawEntry("././@LongLink", 'L', 4, "abc\x00") + rawEntry("x/", '0', 0, "") + rawEntry("y", '7', 1, "z") + endMarker),
		[]byte(pax('x', "mtime", "0.5") + device(rawEntry("a", '0', 3, "abc")) + endMarker),
		[]byte(pax('x', "mtime", "0.5") + device(rawEntry("a", '4', 0, "")) + endMarker),
		[]byte(rawEntry("dev", '4', 0, "") + rawEntry("l", '1', 5, "") + strings.Repeat("\x00", 512)),
		[]byte(plainEntry("a", "A")),
		[]byte(plainEntry("a", "A")[:513]),
		[]byte(plainEntry("a", "A") + pax('x', "path", "b")),
		[]byte(sparse("s", 600)),
	} {
		f.Add(in)
	}
	limits := layer.Options{MaxBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, in []byte) {
		in = bytes.Clone(in)
		mend(in)
		before, _, err := walk(t, in, limits)
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) && !errors.Is(err, oci.ErrTooLarge) && !errors.Is(err, oci.ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
			if _, err := pass(t, in, limits, io.Discard, filter{}); err == nil {
				t.Fatalf("Walk finds an error, the pass doesn't")
			}
			return
		}
		var out bytes.Buffer
		got, err := pass(t, in, limits, &out, filter{})
		if errors.Is(err, oci.ErrInvalid) && strings.Contains(err.Error(), "no tar can hold") {
			return // more than one of the formats would be needed
		}
		if err != nil || !got.Unchanged {
			t.Fatalf("nothing done: %+v, %v", got, err)
		}
		after, _, err := walk(t, out.Bytes(), layer.Options{MaxRatio: -1})
		if err != nil || len(after) != len(before) {
			t.Fatalf("%d entries became %d, %v", len(before), len(after), err)
		}
		for i := range before {
			b, a := before[i], after[i]
			if strings.Trim(a.h.Name, "/") != strings.Trim(b.h.Name, "/") || a.h.Linkname != b.h.Linkname || a.h.Typeflag != b.h.Typeflag || a.body != b.body ||
				a.h.Mode != b.h.Mode || a.h.Uid != b.h.Uid || !a.h.ModTime.Equal(b.h.ModTime) || len(a.h.PAXRecords) != len(b.h.PAXRecords) {
				t.Fatalf("%+v became %+v", b, a)
			}
		}
		again, err := pass(t, in, limits, io.Discard, filter{})
		if err != nil || again.Desc.Digest != got.Desc.Digest {
			t.Fatalf("another run: %+v, %v, want %+v", again, err, got)
		}
		if len(before) == 0 {
			return
		}
		// What is dropped by its path is gone, and no link to it is left.
		gone := before[0].h.Name
		out.Reset()
		got, err = pass(t, in, limits, &out, drop(strings.Trim(gone, "./")))
		if err != nil {
			return // a hard link to what isn't in this layer
		}
		after, _, err = walk(t, out.Bytes(), layer.Options{MaxRatio: -1})
		if err != nil || got.Unchanged && len(after) != len(before) {
			t.Fatalf("dropped: %+v, %d entries became %d, %v", got, len(before), len(after), err)
		}
	})
}

// device gives a header the number of a device that only GNU's format can hold.
func device(in string) string {
	b := []byte(in)
	copy(b[329:337], "\xff\x00\x00\x00\x00\x00\x00\x00")
	mend(b[:512])
	return string(b)
}

// mend gives each block that looks like a header the checksum that it needs, so
// that the fuzzer gets past it.
func mend(in []byte) {
	for ; len(in) >= 512; in = in[512:] {
		if string(in[257:262]) == "ustar" {
			copy(in[148:156], "        ")
			sum := 0
			for _, c := range in[:512] {
				sum += int(c)
			}
			copy(in[148:], fmt.Sprintf("%06o\x00 ", sum))
		}
	}
}

// pass runs a pass until it is done, within reason.
func pass(t testing.TB, in []byte, limits layer.Options, w io.Writer, filters ...oci.EntryFilter) (layer.Rewritten, error) {
	p := layer.NewPass(oci.Descriptor{}, filters, layer.PassOptions{Limits: limits})
	for range 1000 {
		if b, ok := w.(*bytes.Buffer); ok {
			b.Reset()
		}
		got, err := p.Run(t.Context(), w, bytes.NewReader(in))
		if !errors.Is(err, layer.ErrAgain) {
			return got, err
		}
	}
	t.Fatal("the pass never ends")
	return layer.Rewritten{}, nil
}
