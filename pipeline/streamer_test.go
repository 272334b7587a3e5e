package pipeline_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A part is what a stream says of one member of its tar.
type part struct {
	name string
	blob oci.Blob
	body []byte
}

// A stream is a place that gives an image once, front to back: a tar file.
type stream struct {
	t      *testing.T
	file   string
	parts  []part // as they lie in the file
	desc   oci.Descriptor
	config []byte

	begun  atomic.Int32                // streams
	opened atomic.Int32                // parts
	read   func(stream, n int64) error // may fail a read, n bytes into the file
	bytes  atomic.Int64                // that were read of layers
	open   atomic.Int32                // streams that have not ended
}

// How an image is streamed.
type how struct {
	legacy     bool // nobody knows digests before: dockerd 20.10
	compressed bool // layers as their registry had them, and their manifest: containerd's store
	order      func(layers []part, config part) []part
	described  bool // the place tells of the image before
}

// plainOf gives the tar of a layer.
func plainOf(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := layer.Open(bytes.NewReader(b), layer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// streamOf puts img into a tar and gives a place that streams that.
func streamOf(t *testing.T, img imagetest.Image, h how) *stream {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		t.Fatal(err)
	}
	config := img.Blobs[m.Config.Digest]
	s := &stream{t: t, file: filepath.Join(t.TempDir(), "image.tar")}
	var layers []part
	seen := map[oci.Digest]bool{}
	for _, d := range m.Layers {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		body := img.Blobs[d.Digest]
		if !h.compressed {
			body = plainOf(t, body)
			d = oci.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(body), Size: int64(len(body))}
		}
		b := oci.Blob{Desc: d, Layer: oci.UnknownLayer}
		if !h.compressed {
			b.DiffID = d.Digest
		} else if h.described {
			b.DiffID = digest.FromBytes(plainOf(t, body))
		}
		name := d.Digest.Encoded()
		if h.legacy {
			b.Desc.Digest, b.DiffID = "", ""
			name = digest.FromString("v1" + name).Encoded()
		}
		layers = append(layers, part{name, b, body})
	}
	c := part{m.Config.Digest.Encoded(), oci.Blob{Desc: m.Config, Layer: oci.NoLayer}, config}
	c.blob.Desc.MediaType = ocispec.MediaTypeImageConfig
	if h.order == nil {
		h.order = configLast
	}
	s.parts = h.order(layers, c)
	if h.compressed {
		s.parts = append(s.parts, part{"manifest", oci.Blob{Desc: img.Desc, Layer: oci.NoLayer}, img.Raw})
	}
	s.config = config
	s.desc = oci.Descriptor{MediaType: oci.MediaTypeManifest, Annotations: map[string]string{oci.AnnotationSynthetic: "true", oci.AnnotationConfig: string(m.Config.Digest)}}
	if h.compressed {
		s.desc = img.Desc
	}
	s.write()
	return s
}

// write writes the tar.
func (s *stream) write() {
	s.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range s.parts {
		if err := w.WriteHeader(&tar.Header{Name: p.name, Mode: 0o644, Size: int64(len(p.body))}); err != nil {
			s.t.Fatal(err)
		}
		if _, err := w.Write(p.body); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.file, b.Bytes(), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func configFirst(layers []part, config part) []part { return append([]part{config}, layers...) }
func configLast(layers []part, config part) []part  { return append(slices.Clone(layers), config) }
func configMiddle(layers []part, config part) []part {
	return slices.Insert(slices.Clone(layers), len(layers)/2, config)
}
func reversed(layers []part, config part) []part {
	all := configFirst(layers, config)
	slices.Reverse(all)
	return all
}
func byName(layers []part, config part) []part {
	all := configFirst(layers, config)
	slices.SortFunc(all, func(a, b part) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return all
}

func (s *stream) Stream(ctx context.Context, _ string) iter.Seq2[oci.Blob, error] {
	return func(yield func(oci.Blob, error) bool) {
		n := s.begun.Add(1)
		s.open.Add(1)
		defer s.open.Add(-1)
		f, err := os.Open(s.file)
		if err != nil {
			yield(oci.Blob{}, err)
			return
		}
		defer f.Close()
		r := tar.NewReader(&faulty{s: s, r: f, ctx: ctx, stream: int64(n)})
		for i := 0; ; i++ {
			h, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(oci.Blob{}, fmt.Errorf("stream: %w", err))
				return
			}
			if h.Name != s.parts[i].name {
				s.t.Errorf("member %s, want %s", h.Name, s.parts[i].name)
			}
			b, now, used := s.parts[i].blob, i, false
			b.Open = func(ctx context.Context) (io.ReadCloser, error) {
				if used || now != i {
					s.t.Errorf("%s is opened twice, or too late", h.Name)
					return nil, errors.New("gone")
				}
				used = true
				s.opened.Add(1)
				return io.NopCloser(readFunc(func(p []byte) (int, error) {
					if err := context.Cause(ctx); err != nil {
						return 0, err
					}
					if now != i {
						s.t.Errorf("%s is read too late", h.Name)
					}
					n, err := r.Read(p)
					s.bytes.Add(int64(n))
					return n, err
				})), nil
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

// diffIDs are those of the image.
func (s *stream) diffIDs() []oci.Digest {
	var cfg ocispec.Image
	if err := json.Unmarshal(s.config, &cfg); err != nil {
		s.t.Fatal(err)
	}
	return cfg.RootFS.DiffIDs
}

func bytesReader(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// A faulty reads the file and fails where the test wants it.
type faulty struct {
	s      *stream
	r      io.Reader
	ctx    context.Context
	stream int64
	n      int64
}

func (f *faulty) Read(p []byte) (int, error) {
	if err := context.Cause(f.ctx); err != nil {
		return 0, err
	}
	n, err := f.r.Read(p)
	f.n += int64(n)
	if f.s.read != nil {
		if fault := f.s.read(f.stream, f.n); fault != nil {
			return 0, fault
		}
	}
	return n, err
}

// The rest of a source needs a copy on disk: nobody may ask for it.

func (s *stream) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	s.t.Error("Resolve was called, want a stream")
	return oci.Descriptor{}, nil, oci.ErrUnsupported
}

func (s *stream) Head(context.Context, string) (oci.Descriptor, error) {
	s.t.Error("Head was called, want a stream")
	return oci.Descriptor{}, oci.ErrUnsupported
}

func (s *stream) Fetch(context.Context, oci.Descriptor) (io.ReadCloser, error) {
	s.t.Error("Fetch was called, want a stream")
	return nil, oci.ErrUnsupported
}

// A describer is a stream that tells of the image before.
type describer struct{ *stream }

func (d describer) Describe(context.Context, string) (oci.Descriptor, []byte, error) {
	return d.desc, d.config, nil
}

// into makes the way of the streamed image to target, to be called
// host/org/app:v1 there.
func (s *stream) into(t *testing.T, target oci.Target, host string, h how) pipeline.Image {
	t.Helper()
	item := oci.Item{Ref: oci.Ref{Registry: "localhost", Repository: "org/app", Tag: "v1"}, Bytes: -1}
	to := item.Ref
	to.Registry = host
	dest, err := target.Image(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dest.Close(); err != nil {
			t.Error(err)
		}
	})
	img := pipeline.Image{Item: item, Source: s, Dest: dest, Traits: target.Traits(), To: to}
	if h.described {
		img.Source = describer{s}
	}
	return img
}
