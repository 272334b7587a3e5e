package layer_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// A filter is an EntryFilter of one function; drops makes it an oci.Dropper.
type filter struct {
	put   func(e *oci.Entry, next oci.Sink) error
	end   func(next oci.Sink) error
	drops func(string) bool
}

func (f filter) ID() string { return "test/1" }

func (f filter) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink { return &sink{f, next} }

func (f filter) Drops(p string) bool { return f.drops != nil && f.drops(p) }

type sink struct {
	f    filter
	next oci.Sink
}

func (s *sink) Put(e *oci.Entry) error {
	if s.f.put == nil {
		return s.next.Put(e)
	}
	return s.f.put(e, s.next)
}

func (s *sink) Close() error {
	if s.f.end != nil {
		if err := s.f.end(s.next); err != nil {
			return err
		}
	}
	return s.next.Close()
}

// edit changes headers.
func edit(do func(h *tar.Header)) filter {
	return filter{put: func(e *oci.Entry, next oci.Sink) error {
		do(e.Header)
		return next.Put(e)
	}}
}

// drop drops entries by their path.
func drop(paths ...string) filter {
	is := func(p string) bool {
		for _, d := range paths {
			if strings.Trim(p, "./") == d {
				return true
			}
		}
		return false
	}
	return filter{drops: is, put: func(e *oci.Entry, next oci.Sink) error {
		if is(e.Header.Name) {
			return nil
		}
		return next.Put(e)
	}}
}

// A file is one entry in a test: what a tar holds of it.
type file struct {
	h    tar.Header
	body string
}

func reg(name, body string) file {
	return file{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1700000000, 0)}, body}
}

func link(name, to string) file {
	return file{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to, Mode: 0o644, ModTime: time.Unix(1700000000, 0)}, ""}
}

func dir(name string) file {
	return file{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(1700000000, 0)}, ""}
}

// pack makes a tar.
func pack(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		err := w.WriteHeader(&f.h)
		if err == nil {
			_, err = io.WriteString(w, f.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack reads a tar with archive/tar alone.
func unpack(t testing.TB, raw []byte) []file {
	t.Helper()
	var out []file
	r := tar.NewReader(bytes.NewReader(raw))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		var body []byte
		if err == nil {
			body, err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, file{*h, string(body)})
	}
}

// listing says what matters of files, a line each.
func listing(files []file) string {
	var b strings.Builder
	for _, f := range files {
		b.WriteString(f.h.Name)
		switch {
		case f.h.Typeflag == tar.TypeLink:
			b.WriteString(" => " + f.h.Linkname)
		case f.h.Typeflag == tar.TypeSymlink:
			b.WriteString(" -> " + f.h.Linkname)
		case f.body != "":
			b.WriteString(": " + f.body)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func descriptor(blob []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
}

// run runs a pass over blob until it is done, and checks what it says of its output.
func run(t testing.TB, blob []byte, opt layer.PassOptions, filters ...oci.EntryFilter) (layer.Rewritten, []byte, *layer.Pass, error) {
	t.Helper()
	d := descriptor(blob)
	p := layer.NewPass(d, filters, opt)
	for {
		var out bytes.Buffer
		got, err := p.Run(t.Context(), &out, oci.Verify(io.NopCloser(bytes.NewReader(blob)), d))
		if errors.Is(err, layer.ErrAgain) {
			continue
		}
		if err != nil {
			return got, nil, p, err
		}
		if got.Desc.Digest != digest.FromBytes(out.Bytes()) || got.Desc.Size != int64(out.Len()) {
			t.Errorf("the descriptor %+v isn't that of the %d bytes written", got.Desc, out.Len())
		}
		codec, raw, err := read(&out, layer.Options{MaxRatio: -1})
		if err != nil {
			t.Fatal(err)
		}
		if promised, _ := layer.CodecOf(got.Desc.MediaType); promised != codec || got.DiffID != digest.FromBytes(raw) || got.TarSize != int64(len(raw)) {
			t.Errorf("%+v isn't right: the bytes are %s of a tar of %d bytes, %s", got, codec, len(raw), digest.FromBytes(raw))
		}
		return got, raw, p, nil
	}
}

func TestRun(t *testing.T) {
	plain := pack(t, dir("etc/"), reg("etc/motd", "hello"), reg("etc/big", strings.Repeat("0123456789", 300_000)), link("etc/m", "etc/motd"))
	for name, blob := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain), "none": plain} {
		for _, codec := range []layer.Codec{"", layer.Gzip, layer.Zstd, layer.None} {
			got, raw, _, err := run(t, blob, layer.PassOptions{Codec: codec}, edit(func(h *tar.Header) { h.Uid = 7 }))
			if err != nil {
				t.Fatal(err)
			}
			want := codec
			if codec == "" {
				want = layer.Codec(name)
			}
			if c, _ := layer.CodecOf(got.Desc.MediaType); c != want || got.Unchanged || got.Entries != 4 ||
				got.Source != (layer.Tar{DiffID: digest.FromBytes(plain), Size: int64(len(plain)), Codec: layer.Codec(name), Entries: 4}) {
				t.Errorf("%s to %q: got %+v", name, codec, got)
			}
			files := unpack(t, raw)
			if listing(files) != listing(unpack(t, plain)) || files[3].h.Uid != 7 {
				t.Errorf("%s to %q: got\n%s", name, codec, listing(files))
			}
			if got, _, _, err := run(t, blob, layer.PassOptions{Codec: codec}, filter{}, filter{}); err != nil || !got.Unchanged {
				t.Errorf("%s to %q, filters that do nothing: got %+v, %v", name, codec, got, err)
			}
		}
	}
}
