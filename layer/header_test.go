package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// TestHeaders sends each header through a pass that changes something else, and
// expects it as it was, in the format that it needs.
func TestHeaders(t *testing.T) {
	when := time.Unix(1700000000, 0)
	capability := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	tests := []struct {
		name   string
		h      tar.Header
		format tar.Format
	}{
		{"plain", tar.Header{Name: "a", ModTime: when, Uname: "root", Gname: "root"}, tar.FormatUSTAR},
		{"255 bytes that can be split", tar.Header{Name: strings.Repeat("d", 154) + "/" + strings.Repeat("n", 100), ModTime: when}, tar.FormatUSTAR},
		{"a folder whose slash is one too many", tar.Header{Typeflag: tar.TypeDir, Name: strings.Repeat("d", 100) + "/", ModTime: when}, tar.FormatPAX},
		{"a long name", tar.Header{Name: strings.Repeat("n", 101), ModTime: when}, tar.FormatPAX},
		{"a long link", tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: strings.Repeat("n", 101), ModTime: when}, tar.FormatPAX},
		{"a name that isn't ASCII", tar.Header{Name: "h\u00e4h", ModTime: when}, tar.FormatPAX},
		{"a name that isn't UTF-8", tar.Header{Name: "h\xe4h", ModTime: when}, tar.FormatPAX},
		{"a link that isn't ASCII", tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "h\u00e4h", ModTime: when}, tar.FormatPAX},
		{"an owner of 33 bytes", tar.Header{Name: "a", Uname: strings.Repeat("u", 33), ModTime: when}, tar.FormatPAX},
		{"an owner that isn't ASCII", tar.Header{Name: "a", Gname: "\u00fcser", ModTime: when}, tar.FormatPAX},
		{"a large uid", tar.Header{Name: "a", Uid: 2097152, ModTime: when}, tar.FormatPAX},
		{"the largest uid of ustar", tar.Header{Name: "a", Uid: 2097151, Gid: 2097151, ModTime: when}, tar.FormatUSTAR},
		{"a fraction of a second", tar.Header{Name: "a", ModTime: when.Add(123456789)}, tar.FormatPAX},
		{"before 1970", tar.Header{Name: "a", ModTime: time.Unix(-5, 0)}, tar.FormatPAX},
		{"times of access and change", tar.Header{Name: "a", ModTime: when, AccessTime: when, ChangeTime: when.Add(5)}, tar.FormatPAX},
		{"a capability", tar.Header{Name: "a", ModTime: when, PAXRecords: capability}, tar.FormatPAX},
		{"a vendor's record", tar.Header{Name: "a", ModTime: when, PAXRecords: map[string]string{"LIBARCHIVE.creationtime": "1700000000"}}, tar.FormatPAX},
		{"setuid", tar.Header{Name: "a", Mode: 0o4755, ModTime: when}, tar.FormatUSTAR},
		{"a mode with the type in it", tar.Header{Name: "a", Mode: 0o100644, ModTime: when}, tar.FormatUSTAR},
		{"a device", tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, ModTime: when}, tar.FormatUSTAR},
		{"a device beyond octal", tar.Header{Typeflag: tar.TypeBlock, Name: "dev", Devmajor: 1, Devminor: 1 << 24, ModTime: when}, tar.FormatGNU},
		{"a fifo", tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", ModTime: when}, tar.FormatUSTAR},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := tt.h
			if in.Typeflag == 0 {
				in.Typeflag, in.Size = tar.TypeReg, 1
			}
			if in.Format = tt.format; tt.format == tar.FormatUSTAR {
				in.Format = tar.FormatUnknown
			}
			f := file{in, strings.Repeat("x", int(in.Size))}
			_, raw, _, err := run(t, gz(t, pack(t, f, reg("other", ""))), layer.PassOptions{}, edit(func(h *tar.Header) {
				if h.Name == "other" {
					h.Uid = 5
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			got := unpack(t, raw)[0].h
			format := got.Format
			maps.DeleteFunc(got.PAXRecords, func(k, _ string) bool { return !strings.Contains(k, ".") })
			got.Format, in.Format, got.Xattrs = 0, 0, nil //nolint:staticcheck // PAXRecords has them
			if len(got.PAXRecords) == 0 {
				got.PAXRecords = nil
			}
			if !reflect.DeepEqual(got, in) || format != tt.format {
				t.Errorf("got %v\n%+v, want %v\n%+v", format, got, tt.format, in)
			}
		})
	}
}

// TestRecordsThatMirrorFields: a filter changes a field, and nothing that the
// tar said of it before is left.
func TestRecordsThatMirrorFields(t *testing.T) {
	in := pax('x', "path", "old", "uid", "7", "mtime", "1700000000.5", "atime", "1700000001", "hdrcharset", "BINARY", "size", "1", "SCHILY.xattr.user.k", "v") + plainEntry("x", "A") + endMarker
	_, raw, _, err := run(t, []byte(in), layer.PassOptions{}, edit(func(h *tar.Header) {
		for k := range h.PAXRecords {
			if k != "SCHILY.xattr.user.k" {
				t.Errorf("a filter sees the record %s", k)
			}
		}
		h.Name, h.Uid, h.ModTime, h.AccessTime = "new", 1, time.Unix(5, 0), time.Time{}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if want := pax('x', "SCHILY.xattr.user.k", "v"); !bytes.Contains(raw, []byte(want[512:])) {
		t.Errorf("the record that is left isn't alone: %q", raw[512:1024])
	}
	if h := unpack(t, raw)[0].h; h.Name != "new" || h.Uid != 1 || !h.ModTime.Equal(time.Unix(5, 0)) {
		t.Errorf("got %+v", h)
	}
	// Without them, it is USTAR.
	_, raw, _, err = run(t, []byte(in), layer.PassOptions{}, edit(func(h *tar.Header) {
		h.PAXRecords, h.ModTime, h.AccessTime = nil, time.Unix(5, 0), time.Time{}
	}))
	if err != nil || len(raw) != 1024+ending {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	// A filter that sets one sets nothing.
	_, raw, _, err = run(t, []byte(in), layer.PassOptions{}, edit(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"path": "sneaky", "GNU.sparse.name": "sneaky"}
	}))
	if err != nil || bytes.Contains(raw, []byte("sneaky")) {
		t.Errorf("a filter's record of a field is written, %v", err)
	}
}

// TestGlobalHeaders: what isn't about fields stays, in its place.
func TestGlobalHeaders(t *testing.T) {
	in := plainEntry("a", "A") + pax('g', "comment", "hi", "mtime", "5") + plainEntry("b", "B") + pax('g', "mtime", "5") + endMarker
	_, raw, _, err := run(t, []byte(in), layer.PassOptions{}, edit(func(h *tar.Header) { h.Uid = 5 }))
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, raw)
	if len(files) != 3 || files[1].h.Typeflag != tar.TypeXGlobalHeader || !maps.Equal(files[1].h.PAXRecords, map[string]string{"comment": "hi"}) {
		t.Errorf("got %+v", files)
	}
}

// TestUnchanged: what counts as a change.
func TestUnchanged(t *testing.T) {
	blob := gz(t, pack(t, dir("d/"), reg("d/a", "hello"), reg("d/b", ""), link("d/c", "d/a")))
	put := func(do func(e *oci.Entry, next oci.Sink) error) filter { return filter{put: do} }
	var held *oci.Entry
	tests := []struct {
		name string
		f    filter
		want bool
	}{
		{"nothing done", filter{}, true},
		{"copies", put(func(e *oci.Entry, next oci.Sink) error {
			h := *e.Header
			h.ModTime = h.ModTime.UTC()
			h.Format = tar.FormatGNU
			return next.Put(&oci.Entry{Header: &h, Body: e.Body})
		}), true},
		{"bodies watched", put(func(e *oci.Entry, next oci.Sink) error {
			return next.Put(&oci.Entry{Header: e.Header, Body: io.TeeReader(e.Body, io.Discard)})
		}), true},
		{"bodies held", put(func(e *oci.Entry, next oci.Sink) error {
			b, err := io.ReadAll(e.Body)
			return errors.Join(err, next.Put(&oci.Entry{Header: e.Header, Body: bytes.NewReader(b)}))
		}), true},
		{"a folder held back", filter{
			put: func(e *oci.Entry, next oci.Sink) error {
				if e.Header.Typeflag == tar.TypeDir {
					held = e
					return nil
				}
				if held != nil {
					if err := next.Put(held); err != nil {
						return err
					}
					held = nil
				}
				return next.Put(e)
			},
		}, true},
		{"other bytes of the same size", put(func(e *oci.Entry, next oci.Sink) error {
			if e.Header.Size > 0 {
				e.Body = strings.NewReader("HELLO")
			}
			return next.Put(e)
		}), false},
		{"the time", edit(func(h *tar.Header) { h.ModTime = h.ModTime.Add(1) }), false},
		{"a record", edit(func(h *tar.Header) { h.PAXRecords = map[string]string{"a.b": "c"} }), false},
		{"an xattr the old way", edit(func(h *tar.Header) { h.Xattrs = map[string]string{"user.a": "b"} }), false}, //nolint:staticcheck // a filter may
		{"a slash in front", edit(func(h *tar.Header) { h.Name = "/" + h.Name }), false},
		{"the last dropped", drop("d/c"), false},
		{"all dropped", put(func(*oci.Entry, oci.Sink) error { return nil }), false},
		{"one more", filter{end: func(next oci.Sink) error {
			return next.Put(&oci.Entry{Header: &tar.Header{Typeflag: tar.TypeDir, Name: "e/"}})
		}}, false},
	}
	for _, tt := range tests {
		if got, _, _, err := run(t, blob, layer.PassOptions{}, tt.f); err != nil || got.Unchanged != tt.want {
			t.Errorf("%s: got %v, %v", tt.name, got.Unchanged, err)
		}
	}
}

// TestFiltersThatAreWrong: no broken layer comes of them.
func TestFiltersThatAreWrong(t *testing.T) {
	own := errors.New("the filter's own error")
	body := func(size int64, r io.Reader) filter {
		return filter{put: func(e *oci.Entry, next oci.Sink) error {
			e.Header.Size = size
			if r != nil || size > 5 {
				e.Body = r
			}
			return next.Put(e)
		}}
	}
	for name, tt := range map[string]struct {
		f    filter
		kind error
	}{
		"too short":           {body(5, strings.NewReader("hell")), oci.ErrInvalid},
		"too long":            {body(5, strings.NewReader("hello!")), oci.ErrInvalid},
		"the own body, less":  {body(4, nil), oci.ErrInvalid},
		"no body":             {body(9, nil), oci.ErrInvalid},
		"no such name":        {edit(func(h *tar.Header) { h.Name = "a\x00b" }), oci.ErrInvalid},
		"no such type":        {edit(func(h *tar.Header) { h.Typeflag = tar.TypeXHeader }), oci.ErrInvalid},
		"no such size":        {edit(func(h *tar.Header) { h.Size = -1 }), oci.ErrInvalid},
		"an error":            {filter{put: func(*oci.Entry, oci.Sink) error { return own }}, own},
		"an error at the end": {filter{end: func(oci.Sink) error { return own }}, own},
	} {
		if got, _, _, err := run(t, gz(t, pack(t, reg("a", "hello"))), layer.PassOptions{}, tt.f); !errors.Is(err, tt.kind) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	open := neverCloses{}
	if _, _, _, err := run(t, gz(t, pack(t, reg("a", "hello"))), layer.PassOptions{}, open); err == nil || !strings.Contains(err.Error(), "close") {
		t.Errorf("a sink that isn't closed: %v", err)
	}
}

type neverCloses struct{}

func (neverCloses) ID() string                                    { return "" }
func (neverCloses) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink { return unclosed{next} }

type unclosed struct{ oci.Sink }

func (unclosed) Close() error { return nil }

// TestDescriptor: what is kept of a layer's own, and what can't be.
func TestDescriptor(t *testing.T) {
	blob := gz(t, pack(t, reg("a", "A")))
	d := descriptor(blob)
	d.URLs, d.Data = []string{"https://example.com/layer"}, []byte("x")
	d.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": "sha256:1", "io.github.containers.zstd-chunked.manifest-checksum": "sha256:2", "org.example.kept": "yes"}
	got, err := layer.NewPass(d, nil, layer.PassOptions{Codec: layer.Zstd}).Run(t.Context(), io.Discard, bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprint(map[string]string{"org.example.kept": "yes"}); fmt.Sprint(got.Desc.Annotations) != want || got.Desc.URLs != nil || got.Desc.Data != nil {
		t.Errorf("got %+v", got.Desc)
	}
	if len(d.Annotations) != 3 {
		t.Error("the layer's own descriptor has changed")
	}
}
