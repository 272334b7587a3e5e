package pipeline_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// An image that no manifest describes gets one, around the same config.
func TestSyntheticImage(t *testing.T) {
	img := fourLayers(t)
	for _, place := range []string{"registry", "ocidir"} {
		for _, compression := range []string{"", "keep", "gzip", "zstd", "none"} {
			t.Run(place+" "+compression, func(t *testing.T) {
				src, far := imagetest.NewPlain(t.TempDir()), newFar(t)
				item := src.Add("org/app", "v1", img)
				uri := map[string]string{"registry": "registry://" + far.host, "ocidir": "ocidir://" + t.TempDir() + "/x"}[place] + "?compression=" + compression
				target := openTarget(t, uri, far.env())
				way := wayOf(t, src, item, target, far.host)
				r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
				got := readImage(t, way.Dest, "")
				if r.Status != oci.StatusCopied || !r.Verified || r.Digest != "" || r.Written != got.Digest || r.Layers != 4 {
					t.Errorf("%+v, want %s copied and verified, from no digest", r, got.Digest)
				}
				want := layer.Codec(compression)
				if !slices.Contains([]layer.Codec{layer.Gzip, layer.Zstd, layer.None}, want) {
					want = layer.Gzip
				}
				if c := codecs(t, way.Dest, got); !slices.Equal(c, slices.Repeat([]layer.Codec{want}, 4)) || got.MediaType != oci.MediaTypeManifest || strings.Contains(got.raw, "docker") || strings.Contains(got.raw, "quaymaster") {
					t.Errorf("layers are %s, want %s in %s", c, want, got.raw)
				}
				if was, err := oci.ParseManifest("", img.Raw); err != nil || got.m.Config.Digest != was.Config.Digest {
					t.Errorf("the config is %s, want %s (%v)", got.m.Config.Digest, was.Config.Digest, err)
				}
				if head, err := way.Dest.Head(t.Context(), ""); err != nil || oci.IsSynthetic(head) {
					t.Errorf("%+v, %v: it is a manifest now", head, err)
				}
				recoded := 3
				if want == layer.None {
					recoded = 0
				}
				reads := src.Reads()
				for d, n := range reads {
					if n != 1 {
						t.Errorf("%s was read %d times", d, n)
					}
				}
				if r.LayersRecoded != recoded || r.LayersFiltered != 0 || len(reads) != 4 || r.BlobsMoved != 4 {
					t.Errorf("%+v, reads %v, want 3 layers and the config, %d recoded", r, reads, recoded)
				}

				// The second time nothing is read but what is small.
				far.log()
				again := copyImage(t, wayOf(t, src, item, target, far.host), pipeline.Options{})
				if reads := src.Reads(); again.Status != oci.StatusSkipped || again.Written != got.Digest || again.Digest != "" || len(reads) > 1 {
					t.Errorf("second run: %+v, it read %v", again, reads)
				}
				if asked := far.log(); writes(asked) > 0 || len(asked) > 2 {
					t.Errorf("second run asked %q", asked)
				}
				if plan := copyImage(t, wayOf(t, src, item, target, far.host), pipeline.Options{DryRun: true}); plan.Status != oci.StatusSkipped {
					t.Errorf("plan: %+v", plan)
				}
			})
		}
	}
}

// What another tool wrote of the same config is left alone, if its layers are
// compressed as they are to be.
func TestSyntheticImageIsThere(t *testing.T) {
	img := fourLayers(t)
	src := imagetest.NewPlain(t.TempDir())
	item := src.Add("org/app", "v1", img)
	var other ocispec.Manifest
	if err := json.Unmarshal(img.Raw, &other); err != nil {
		t.Fatal(err)
	}
	other.Layers = other.Layers[:3]
	for name, tt := range map[string]struct {
		img         imagetest.Image
		compression string
		want        oci.Status
	}{
		"an OCI image":            {img, "", oci.StatusSkipped},
		"docker's":                {img.Docker(), "", oci.StatusSkipped},
		"of an index":             {imagetest.Index(img), "", oci.StatusCopied},
		"compressed otherwise":    {img, "zstd", oci.StatusCopied},
		"not compressed":          {img, "none", oci.StatusCopied},
		"of fewer layers":         {remake(t, img, other), "", oci.StatusCopied},
		"with another config":     {imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 10)), "", oci.StatusCopied},
		"with the same, but more": {img, "keep", oci.StatusSkipped},
	} {
		t.Run(name, func(t *testing.T) {
			far := newFar(t)
			far.push(t, "org/app", "v1", tt.img)
			src.Reads()
			way := wayOf(t, src, item, openTarget(t, "registry://"+far.host+"?compression="+tt.compression, far.env()), far.host)
			r := copyImage(t, way, pipeline.Options{})
			if reads := src.Reads(); r.Status != tt.want || (tt.want == oci.StatusSkipped) != (len(reads) == 0) {
				t.Errorf("%+v, it read %v", r, reads)
			}
			if got := readManifest(t, way.Dest); r.Written != got.Digest {
				t.Errorf("%s is there, the report says %s", got.Digest, r.Written)
			}
		})
	}
}

// A tar that isn't the diffID's, and a config of other layers, are found.
func TestSyntheticImageIsVerified(t *testing.T) {
	img := fourLayers(t)
	for name, size := range map[string]int{"small": 0, "large": 1} { // a large one is sent while it is read
		for _, compression := range []string{"gzip", "none"} {
			t.Run(name+" "+compression, func(t *testing.T) {
				src := imagetest.NewPlain(t.TempDir())
				item := src.Add("org/app", "v1", img)
				_, raw, err := src.Resolve(t.Context(), "v1")
				if err != nil {
					t.Fatal(err)
				}
				m, err := oci.ParseManifest("", raw)
				if err != nil {
					t.Fatal(err)
				}
				src.Damage(m.Layers[size].Digest)
				way := wayOf(t, src, item, openTarget(t, "ocidir://"+t.TempDir()+"/x?compression="+compression, newFar(t).env()), "x.example")
				if _, err := pipeline.Copy(t.Context(), way, pipeline.Options{}); !errors.Is(err, oci.ErrDigestMismatch) || !strings.Contains(err.Error(), string(m.Layers[size].Digest)) {
					t.Errorf("got %v, want a mismatch of %s", err, m.Layers[size].Digest)
				}
				if _, err := way.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
					t.Errorf("the image is visible: %v", err)
				}
			})
		}
	}
	l := imagetest.Gzip(tarWith(t, tar.Header{Name: "a"}))
	l.DiffID = digest.FromString("another")
	src := imagetest.NewPlain(t.TempDir())
	item := src.Add("org/app", "v1", imagetest.New(imagetest.Linux, nil, l))
	for _, compression := range []string{"gzip", "none"} {
		way := wayOf(t, src, item, openTarget(t, "ocidir://"+t.TempDir()+"/x?compression="+compression, newFar(t).env()), "x.example")
		if _, err := pipeline.Copy(t.Context(), way, pipeline.Options{}); !errors.Is(err, oci.ErrDigestMismatch) || !strings.Contains(err.Error(), string(l.DiffID)) {
			t.Errorf("%s: got %v, want that the config says %s", compression, err, l.DiffID)
		}
	}
}

// A plain place takes a made-up image as it is, and knows it again.
func TestSyntheticIntoRawPlace(t *testing.T) {
	src, far := imagetest.NewPlain(t.TempDir()), newFar(t)
	item := src.Add("org/app", "v1", fourLayers(t))
	target := openTarget(t, "dir://"+t.TempDir()+"/x", far.env())
	way := wayOf(t, src, item, target, "x.example")
	rec := &recorder{Destination: way.Dest}
	way.Dest = rec
	r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
	if r.Status != oci.StatusCopied || r.Digest != "" || r.Written != "" || r.LayersRecoded != 0 {
		t.Errorf("%+v", r)
	}
	for _, p := range rec.puts {
		if p.err != nil || p.desc.Size != int64(len(p.got)) || p.desc.Digest != digest.FromBytes(p.got) {
			t.Errorf("blob %s of %d bytes, %d came, %v: want its size known", p.desc.Digest, p.desc.Size, len(p.got), p.err)
		}
	}
	if again := copyImage(t, wayOf(t, src, item, target, "x.example"), pipeline.Options{}); again.Status != oci.StatusSkipped || again.Digest != "" {
		t.Errorf("second run: %+v", again)
	}
}
