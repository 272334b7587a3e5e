package pipeline_test

import (
	"archive/tar"
	"context"
	"io"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A saved is a place that keeps the image of a stream as docker save wrote it: it
// makes up a manifest.
type saved struct{ *stream }

func (s saved) Resolve(context.Context, string) (oci.Descriptor, []byte, error) {
	var layers []oci.Descriptor
	var config oci.Descriptor
	byID := map[oci.Digest]part{}
	for _, p := range s.parts {
		byID[digest.FromBytes(p.body)] = p
	}
	for _, id := range s.diffIDs() {
		layers = append(layers, oci.Descriptor{Digest: id, Size: int64(len(byID[id].body))})
	}
	config.Digest, config.Size = digest.FromBytes(s.config), int64(len(s.config))
	return layout.Synthetic(config, layers)
}

func (s saved) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := s.Resolve(ctx, ref)
	return d, err
}

func (s saved) Fetch(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	for _, p := range s.parts {
		if digest.FromBytes(p.body) == d.Digest {
			return bytesReader(p.body), nil
		}
	}
	return nil, oci.ErrNotFound
}

// Stream hides that the place is a stream.
func (saved) Stream() {}

// many is an image of which filters change some layers and not others, small
// ones and large ones, and one of which has a hard link to what is excluded.
func many(t *testing.T) imagetest.Image {
	t.Helper()
	return imagetest.New(imagetest.Linux, map[string]string{"a": "b"},
		imagetest.Files(map[string]string{"etc/motd": "hello", "tmp/x": "gone"}),
		imagetest.Random(1, 600<<10),
		imagetest.Gzip(tarWith(t,
			tar.Header{Name: "tmp/file", Typeflag: tar.TypeReg, Size: 540 << 10}, tar.Header{Name: "bin/link", Linkname: "tmp/file", Typeflag: tar.TypeLink},
			tar.Header{Name: "bin/other", Typeflag: tar.TypeReg, Size: 100 << 10})),
		imagetest.Files(map[string]string{"etc/late": "late"}),
		imagetest.Random(1, 600<<10),
	)
}

var chains = map[string][]string{
	"exclude":    {"exclude:pattern=tmp/**"},
	"set-config": {"set-config:env=A=B,annotation=c=d"},
	"all":        {"exclude:pattern=tmp/**", "normalize-timestamps:timestamp=2", "set-config:label=x=y"},
}

func TestFilteredStreamIsWhatTheCopyIs(t *testing.T) {
	img := many(t)
	for name, specs := range chains {
		for kind, h := range map[string]how{
			"raw": {order: reversed}, "legacy": {legacy: true, order: byName}, "compressed": {compressed: true, order: byName, described: true},
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				s := streamOf(t, img, h)
				target, host := newTarget(t, "ocidir")
				way := s.into(t, target, host, h)
				noTemp(t)
				opt := pipeline.Options{Filters: chain(t, specs...), Verify: pipeline.VerifyFull}
				r := copyImage(t, way, opt)

				other, _ := newTarget(t, "ocidir")
				want := s.into(t, other, host, how{})
				want.Source = saved{s}
				if h.compressed {
					far := newFar(t)
					want.Item = far.push(t, "org/app", "v1", img)
					want.Source = far.source(t, want.Item)
				}
				w := copyImage(t, want, opt)
				if got, want := readImage(t, way.Dest, ""), readImage(t, want.Dest, ""); got.raw != want.raw || got.config != want.config {
					t.Errorf("got  %s\nwant %s\nconfig %s\nwant   %s", got.raw, want.raw, got.config, want.config)
				}
				if r.LayersFiltered != w.LayersFiltered || r.LayersRecoded != w.LayersRecoded || r.Layers != w.Layers || r.Written != w.Written || r.Digest != w.Digest {
					t.Errorf("got %+v, want as %+v", r, w)
				}
				// A large layer that a filter left as it was has gone by when that is
				// known, and a link to what was dropped is met too late.
				streams := int32(1)
				if name == "exclude" || name == "all" {
					streams = 2
				}
				if n := s.begun.Load(); n != streams {
					t.Errorf("%d streams, want %d", n, streams)
				}
			})
		}
	}
}

func TestStreamIsSearchedOnItsWay(t *testing.T) {
	img := many(t)
	for kind, h := range map[string]how{
		"raw": {order: reversed}, "legacy": {legacy: true, order: byName}, "compressed": {compressed: true, order: byName, described: true},
	} {
		for _, dest := range []string{"ocidir", "dir"} {
			t.Run(kind+"/"+dest, func(t *testing.T) {
				s := streamOf(t, img, h)
				target, host := newTarget(t, dest)
				way := s.into(t, target, host, h)
				noTemp(t)
				var found []filter.Findings
				c, err := filter.ParseAll([]string{"search:pattern=etc/*"}, filter.Env{Found: func(f filter.Findings) error {
					found = append(found, f)
					return nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				for n := range 2 { // the second time all of it is there
					found = nil
					r := copyImage(t, way, pipeline.Options{Filters: c})
					if len(found) != 1 || len(found[0].Layers) != 2 || found[0].Layers[0].Matches[0].Name != "etc/motd" || found[0].Layers[1].Index != 3 {
						t.Fatalf("found %+v, want etc/motd in the first and etc/late in the fourth layer", found)
					}
					if l := found[0].Layers[1].Layer; l.Before != l.After || l.Before.DiffID != s.diffIDs()[3] || l.Before.Size <= 0 {
						t.Errorf("layer %+v, want the fourth, unchanged, with its size", l)
					}
					if s.begun.Load() != int32(n+1) || r.LayersFiltered != 0 {
						t.Errorf("%d streams, %+v, want one each time", s.begun.Load(), r)
					}
				}
			})
		}
	}
}

func TestStreamIsSkippedWhereItIs(t *testing.T) {
	img := many(t)
	for kind, h := range map[string]how{
		"raw": {order: reversed, described: true}, "compressed": {compressed: true, described: true},
	} {
		t.Run(kind, func(t *testing.T) {
			s := streamOf(t, img, h)
			for _, dest := range []string{"ocidir", "registry"} {
				begun := s.begun.Load()
				target, host := newTarget(t, dest)
				way := s.into(t, target, host, h)
				if r := copyImage(t, way, pipeline.Options{DryRun: true}); r.Status != oci.StatusPlanned || s.begun.Load() != begun {
					t.Errorf("%s: dry run: %+v, %d streams, want a plan without reading", dest, r, s.begun.Load())
				}
				copyImage(t, way, pipeline.Options{})
				if r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull}); r.Status != oci.StatusSkipped || s.begun.Load() != begun+1 {
					t.Errorf("%s: got %s after %d streams, want skipped", dest, r.Status, s.begun.Load())
				}
				// What the place is to hold otherwise isn't there.
				way.Traits.Compression = "zstd"
				if r := copyImage(t, way, pipeline.Options{}); r.Status != oci.StatusCopied || r.LayersRecoded != 4 {
					t.Errorf("%s: got %+v, want it recoded", dest, r)
				}
				if there := readImage(t, way.Dest, ""); slices.ContainsFunc(there.m.Layers, func(d oci.Descriptor) bool { return d.MediaType != ocispec.MediaTypeImageLayerZstd }) {
					t.Errorf("%s: %s, want zstd", dest, there.raw)
				}
				if r := copyImage(t, way, pipeline.Options{}); r.Status != oci.StatusSkipped {
					t.Errorf("%s: got %+v, want skipped", dest, r)
				}
			}
		})
	}
}

// A place that keeps no manifest knows a streamed image by its config.
func TestStreamIsSkippedByItsConfig(t *testing.T) {
	for kind, h := range map[string]how{
		"raw": {order: reversed, described: true}, "legacy": {legacy: true, described: true}, "compressed": {compressed: true, described: true},
	} {
		for name, f := range map[string]filter.Chain{"plain": {}, "filtered": chain(t, "exclude:pattern=*.pyc")} {
			t.Run(kind+" "+name, func(t *testing.T) {
				s := streamOf(t, many(t), h)
				target, host := newTarget(t, "dir")
				way := s.into(t, target, host, h)
				if r := copyImage(t, way, pipeline.Options{Filters: f}); r.Status != oci.StatusCopied {
					t.Fatalf("%+v, want it copied", r)
				}
				begun := s.begun.Load()
				if r := copyImage(t, way, pipeline.Options{Filters: f, Verify: pipeline.VerifyFull}); r.Status != oci.StatusSkipped || s.begun.Load() != begun {
					t.Errorf("got %s after %d more streams, want skipped", r.Status, s.begun.Load()-begun)
				}
				// Other filters make another image.
				if r := copyImage(t, way, pipeline.Options{Filters: chain(t, "set-config:user=x")}); r.Status != oci.StatusCopied {
					t.Errorf("got %s, want it copied with the other filters", r.Status)
				}
			})
		}
	}
}

func TestOwnManifestStaysByteForByte(t *testing.T) {
	img := many(t)
	h := how{compressed: true, order: byName}
	s := streamOf(t, img, h)
	target, host := newTarget(t, "registry")
	way := s.into(t, target, host, h)
	noTemp(t)
	r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
	if _, raw, err := way.Dest.Resolve(t.Context(), ""); err != nil || string(raw) != string(img.Raw) || r.Digest != img.Desc.Digest || r.Written != "" {
		t.Errorf("got %s, %v, %+v, want the manifest of the stream", raw, err, r)
	}
}

func TestPlainLayersThatAreThereAreNotRead(t *testing.T) {
	img := many(t)
	for kind, h := range map[string]how{
		"raw": {order: byName, described: true}, "compressed": {compressed: true, order: byName, described: true},
	} {
		t.Run(kind, func(t *testing.T) {
			s := streamOf(t, img, h)
			target, host := newTarget(t, "dir")
			copyImage(t, s.into(t, target, host, h), pipeline.Options{})
			for _, specs := range [][]string{nil, {"search:pattern=etc/*"}} {
				opened := s.opened.Load()
				way := s.into(t, target, host, h)
				way.To.Tag = "v2"
				dest, err := target.Image(t.Context(), way.To)
				if err != nil {
					t.Fatal(err)
				}
				defer dest.Close()
				way.Dest = dest
				r := copyImage(t, way, pipeline.Options{Filters: chain(t, specs...)})
				if r.Status != oci.StatusCopied || r.BlobsPresent != 5 || r.BlobsMoved != 0 {
					t.Errorf("got %+v, want that all was there", r)
				}
				want := int32(len(s.parts) - 4) // all but the layers
				if specs != nil {
					want = int32(len(s.parts)) // which the filter is to see
				}
				if got := s.opened.Load() - opened; got != want {
					t.Errorf("%d parts were read, want %d", got, want)
				}
			}
		})
	}
}
