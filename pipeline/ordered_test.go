package pipeline_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A recorder notes what a destination is given, each attempt.
type recorder struct {
	oci.Destination
	stack bool // layers go on top of each other: none is there before it is put

	mu   sync.Mutex
	puts []put
	now  int
	most int // at once
}

type put struct {
	desc  oci.Descriptor
	layer int
	got   []byte
	err   error
}

func (r *recorder) Has(ctx context.Context, d oci.Descriptor) (bool, error) {
	if r.stack {
		return false, nil
	}
	return r.Destination.Has(ctx, d)
}

func (r *recorder) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	r.mu.Lock()
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	p := put{desc: b.Desc, layer: b.Layer}
	rc, err := b.Open(ctx)
	if err == nil {
		p.got, err = io.ReadAll(rc)
		_ = rc.Close()
	}
	p.err = err
	r.mu.Lock()
	r.puts = append(r.puts, p)
	r.now--
	r.mu.Unlock()
	if err != nil {
		return oci.Descriptor{}, err
	}
	b.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(p.got)), nil }
	return r.Destination.PutBlob(ctx, b)
}

// Where layers go on top of each other they come one at a time, lowest first,
// one that stands twice at each place, and none that would have to be taken back.
func TestOrderedPlace(t *testing.T) {
	linked := tarWith(t,
		tar.Header{Name: "var/cache/x"}, tar.Header{Name: "data", Typeflag: tar.TypeReg, Size: 1 << 20},
		tar.Header{Name: "keep", Typeflag: tar.TypeLink, Linkname: "var/cache/x"}) // known late, so that the pass begins again
	a, b := imagetest.Gzip(tarWith(t, tar.Header{Name: "etc/motd"}, tar.Header{Name: "var/cache/y"})), imagetest.Gzip(linked)
	untouched := imagetest.Random(5, 1<<20)
	img := imagetest.New(imagetest.Linux, nil, b, a, untouched, a, b)
	for name, specs := range map[string][]string{
		"as it is": nil, "filtered": {"exclude:pattern=var/cache"}, "untouched by filters": {"exclude:pattern=no/such"},
		"only the config": {"set-config:user=7"},
	} {
		for from, synthetic := range map[string]bool{"of a manifest": false, "of none": true} {
			t.Run(name+" "+from, func(t *testing.T) {
				far, plain := newFar(t), imagetest.NewPlain(t.TempDir())
				item := far.push(t, "org/app", "v1", img)
				src := far.source(t, item)
				if synthetic {
					item, src = plain.Add("org/app", "v1", img), plain
				}
				way := wayOf(t, src, item, openTarget(t, "dir://"+t.TempDir()+"/x", far.env()), "x.example")
				rec := &recorder{Destination: way.Dest, stack: true}
				way.Dest, way.Traits.Ordered = rec, true
				r := copyImage(t, way, pipeline.Options{Filters: chain(t, specs...)})
				if r.Status != oci.StatusCopied || rec.most != 1 || len(rec.puts) != 6 {
					t.Fatalf("%+v, %d blobs, %d at once; want six, one at a time", r, len(rec.puts), rec.most)
				}
				var layers []put
				for _, p := range rec.puts {
					if p.err != nil || p.desc.Digest != digest.FromBytes(p.got) {
						t.Errorf("blob %s, layer %d: %d bytes of another came, %v", p.desc.Digest, p.layer, len(p.got), p.err)
					}
					if p.layer >= 0 {
						layers = append(layers, p)
					}
				}
				for i, p := range layers {
					if p.layer != i {
						t.Errorf("layer %d came as number %d", p.layer, i)
					}
				}
				if len(layers) != 5 || layers[0].desc.Digest != layers[4].desc.Digest || layers[1].desc.Digest != layers[3].desc.Digest {
					t.Errorf("%d layers came, want the lowest two again at the end", len(layers))
				}
			})
		}
	}
}
