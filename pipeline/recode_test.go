package pipeline_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

// wayOf makes the way of item from src to target, under its own name on host.
func wayOf(t *testing.T, src oci.Source, item oci.Item, target oci.Target, host string) pipeline.Image {
	t.Helper()
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
	return pipeline.Image{Item: item, Source: src, Dest: dest, Traits: target.Traits(), To: to}
}

// codecs gives how the layers of i are compressed, by media type and by bytes.
func codecs(t *testing.T, src oci.Source, i imageThere) []layer.Codec {
	t.Helper()
	var all []layer.Codec
	for n, l := range i.m.Layers {
		c, _ := layer.CodecOf(l.MediaType)
		blob, err := read(t.Context(), src, l)
		if err != nil {
			t.Fatal(err)
		}
		if is, err := layer.Sniff(blob); err != nil || is != c {
			t.Errorf("layer %d is a %s by its media type, %s by its bytes (%v)", n, c, is, err)
		}
		all = append(all, c)
	}
	return all
}

// fourLayers is an image of a large and two small layers, one of which stands
// twice.
func fourLayers(t *testing.T) imagetest.Image {
	t.Helper()
	a, b := imagetest.Gzip(tarWith(t, tar.Header{Name: "etc/motd"}, tar.Header{Name: "var/x"})), imagetest.Random(7, 1<<20)
	return imagetest.New(imagetest.Linux, map[string]string{"a&b": "<c>"}, a, b, a, imagetest.Gzip(tarWith(t, tar.Header{Name: "var/x"})))
}

// A place that wants another compression than it was written with gets it.
func TestCompressionChanges(t *testing.T) {
	src, far := imagetest.NewPlain(t.TempDir()), newFar(t)
	item := src.Add("org/app", "v1", fourLayers(t))
	seen := map[layer.Codec]oci.Digest{}
	for _, c := range []layer.Codec{layer.Zstd, layer.Gzip, layer.None, layer.Zstd, layer.None, layer.Gzip} {
		way := wayOf(t, src, item, openTarget(t, "registry://"+far.host+"?compression="+string(c), far.env()), far.host)
		r := copyImage(t, way, pipeline.Options{})
		got := readImage(t, way.Dest, "")
		if r.Status != oci.StatusCopied || got.m.Layers[0].MediaType != c.MediaType(ocispec.MediaTypeImageLayer) {
			t.Errorf("%s: %+v, %s", c, r, got.raw)
		}
		if was := seen[c]; was != "" && was != got.Digest {
			t.Errorf("%s: %s, and before %s", c, got.Digest, was)
		}
		seen[c] = got.Digest
	}
}

// recodable is an image with a layer of each kind, and much that is to stay.
func recodable(t *testing.T) imagetest.Image {
	t.Helper()
	gz := imagetest.Gzip(tarWith(t, tar.Header{Name: "gz"}))
	zst := zstdLayer(t, tarWith(t, tar.Header{Name: "zst"}))
	plain := imagetest.Blob(ocispec.MediaTypeImageLayer, tarWith(t, tar.Header{Name: "plain"}))
	for _, l := range []*imagetest.Layer{&gz, &zst, &plain} {
		l.Desc.Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": "sha256:x", "kept": "yes"}
	}
	img := imagetest.New(imagetest.Linux, map[string]string{"a&b": "<c>"}, gz, zst, plain, gz)
	var m map[string]any
	if err := json.Unmarshal(img.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m["x-unknown"], m["annotations"] = []any{1.5}, map[string]string{"of": "the image"}
	return remake(t, img, m)
}

// There and back again: the config, and so every diffID, stays the same.
func TestRecodedImage(t *testing.T) {
	img := recodable(t)
	far := newFar(t)
	item := far.push(t, "org/app", "v1", img)
	was, err := oci.ParseManifest("", img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		compression string
		keeps       int // distinct layers that were stored so
	}{{"keep", 3}, {"zstd", 1}, {"gzip", 0}, {"none", 0}, {"zstd", 0}, {"keep", 3}} {
		near := newFar(t)
		target := openTarget(t, "registry://"+near.host+"?compression="+step.compression, near.env())
		before := readImage(t, far.source(t, item), item.Ref.Tag)
		way := far.image(t, item, target, near.host)
		r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
		got := readImage(t, way.Dest, "")
		if r.Status != oci.StatusCopied || r.LayersRecoded != 3-step.keeps || r.Digest != before.Digest || (r.Written == "") != (step.keeps == 3) {
			t.Errorf("%s: %+v", step.compression, r)
		}
		if step.keeps == 3 {
			if got.raw != before.raw {
				t.Errorf("%s: %s, want %s", step.compression, got.raw, before.raw)
			}
		} else if c := codecs(t, way.Dest, got); !slices.Equal(c, slices.Repeat([]layer.Codec{layer.Codec(step.compression)}, 4)) {
			t.Errorf("%s: layers are %s", step.compression, c)
		}
		if got.m.Config.Digest != was.Config.Digest || !strings.Contains(got.raw, `"x-unknown": [`+"\n\t\t1.5\n\t]") || got.m.Annotations["of"] != "the image" {
			t.Errorf("%s: %s", step.compression, got.raw)
		}
		for i, l := range got.m.Layers {
			bound := l.Annotations["containerd.io/snapshot/stargz/toc.digest"] != ""
			if kept := l.Digest == before.m.Layers[i].Digest; l.Annotations["kept"] != "yes" || bound != (kept && before.m.Layers[i].Annotations["containerd.io/snapshot/stargz/toc.digest"] != "") {
				t.Errorf("%s: layer %d keeps its blob: %v, its annotations are %v", step.compression, i, kept, l.Annotations)
			}
		}
		// The second run knows it by the config, without a layer.
		far.log()
		again := copyImage(t, far.image(t, item, target, near.host), pipeline.Options{})
		if asked := far.log(); again.Status != oci.StatusSkipped || again.Written != r.Written || count(asked, "GET", "/blobs/") > 1 {
			t.Errorf("%s: second run: %+v, it asked %q", step.compression, again, asked)
		}
		far, item.Ref.Registry, item.Desc.Digest = near, near.host, got.Digest
	}
}

// A run with compression= looks at what is there, though the digest is the same.
func TestSameDigestIsRecoded(t *testing.T) {
	far, near := newFar(t), newFar(t)
	img := fourLayers(t)
	item := far.push(t, "org/app", "v1", img)
	near.push(t, "org/app", "v1", img)
	for c, want := range map[string]oci.Status{"keep": oci.StatusSkipped, "gzip": oci.StatusSkipped, "zstd": oci.StatusCopied} {
		r := copyImage(t, far.image(t, item, openTarget(t, "registry://"+near.host+"?compression="+c, near.env()), near.host), pipeline.Options{})
		if r.Status != want {
			t.Errorf("%s: %+v", c, r)
		}
		near.push(t, "org/app", "v1", img)
	}
}

// An index has its recoded children's digests; what isn't an image stays, and
// attestations about what changed go.
func TestRecodedIndex(t *testing.T) {
	far, near := newFar(t), newFar(t)
	index := attested(t, imagetest.Linux, arm64)
	chart := imagetest.New(imagetest.Linux, nil, imagetest.Random(3, 10))
	chart = remake(t, chart, json.RawMessage(strings.Replace(string(chart.Raw), ocispec.MediaTypeImageConfig, "application/vnd.cncf.helm.config.v1+json", 1)))
	var m ocispec.Index
	if err := json.Unmarshal(index.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m.Manifests = append(m.Manifests, chart.Desc)
	index.Children = append(index.Children, chart)
	index = remake(t, index, m)
	item := far.push(t, "org/app", "v1", index)
	for _, compression := range []string{"zstd", "none", "gzip"} {
		t.Run(compression, func(t *testing.T) {
			target := openTarget(t, "registry://"+near.host+"/"+compression+"?compression="+compression, near.env())
			item := item
			item.Ref.Repository = compression + "/app"
			var warned []string
			way := wayOf(t, far.source(t, oci.Item{Ref: oci.Ref{Registry: far.host, Repository: "org/app"}}), item, target, near.host)
			r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull, Warn: func(s string) { warned = append(warned, s) }})
			got := readImage(t, way.Dest, "")
			if compression == "gzip" { // as it is
				if got.raw != string(index.Raw) || r.AttestationsDropped+r.LayersRecoded+len(warned) != 0 || r.Written != "" {
					t.Errorf("%+v, %q, %s", r, warned, got.raw)
				}
				return
			}
			if len(got.m.Manifests) != 3 || r.AttestationsDropped != 2 || len(warned) != 1 || r.LayersRecoded != 4 || r.Written != got.Digest {
				t.Errorf("%+v, %q, %s", r, warned, got.raw)
			}
			if got.m.Manifests[2].Digest != chart.Desc.Digest {
				t.Errorf("the chart is %s, want %s", got.m.Manifests[2].Digest, chart.Desc.Digest)
			}
			for i, d := range got.m.Manifests[:2] {
				if c := codecs(t, way.Dest, readImage(t, way.Dest, string(d.Digest))); string(c[0]) != compression || d.Platform == nil || d.MediaType != oci.MediaTypeManifest {
					t.Errorf("child %d: %v, %+v", i, c, d)
				}
			}
			far.log()
			again := copyImage(t, wayOf(t, way.Source, item, target, near.host), pipeline.Options{})
			if asked := far.log(); again.Status != oci.StatusSkipped || count(asked, "GET", "/blobs/") > 2 {
				t.Errorf("second run: %+v, it asked %q", again, asked)
			}
		})
	}
}

// Docker's manifests hold gzip and plain tar; with zstd they become OCI's.
func TestRecodedDockerImages(t *testing.T) {
	one := fourLayers(t).Docker()
	list := imagetest.Index(layered(imagetest.Linux, 1), layered(arm64, 2)).Docker()
	for name, img := range map[string]imagetest.Image{"image": one, "list": list} {
		for compression, docker := range map[string]bool{"none": true, "zstd": false, "gzip": true} {
			t.Run(name+" "+compression, func(t *testing.T) {
				far := newFar(t)
				target := openTarget(t, "ocidir://"+t.TempDir()+"/x?compression="+compression, far.env())
				item := far.push(t, "org/app", "v1", img)
				way := far.image(t, item, target, far.host)
				r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyFull})
				got := readImage(t, way.Dest, "")
				if same := compression == "gzip"; (got.raw == string(img.Raw)) != same {
					t.Errorf("as it was: want %v, %s", same, got.raw)
				}
				all := []imageThere{got}
				for _, d := range got.m.Manifests {
					all = append(all, readImage(t, way.Dest, string(d.Digest)))
					if d.MediaType != all[len(all)-1].MediaType {
						t.Errorf("the list says %s of a %s", d.MediaType, all[len(all)-1].MediaType)
					}
				}
				for _, i := range all {
					if strings.Contains(i.raw, "vnd.docker") != docker || strings.Contains(i.raw, "vnd.oci") == docker {
						t.Errorf("docker's: want %v, got %s", docker, i.raw)
					}
					if c := codecs(t, way.Dest, i); len(c) > 0 && string(c[0]) != compression {
						t.Errorf("layers are %s", c)
					}
				}
				if again := copyImage(t, far.image(t, item, target, far.host), pipeline.Options{}); again.Status != oci.StatusSkipped || again.Written != r.Written {
					t.Errorf("second run: %+v", again)
				}
			})
		}
	}
}

// Filters write the wanted codec, and what they leave as it was is recoded too.
func TestFilteredAndRecoded(t *testing.T) {
	img := fourLayers(t) // var/x is in two of three
	for name, synthetic := range map[string]bool{"of a manifest": false, "of none": true} {
		t.Run(name, func(t *testing.T) {
			far := newFar(t)
			plain := imagetest.NewPlain(t.TempDir())
			item := far.push(t, "org/app", "v1", img)
			src := far.source(t, item)
			if synthetic {
				item = plain.Add("org/app", "v1", img)
				src = plain
			}
			target := openTarget(t, "ocidir://"+t.TempDir()+"/x?compression=zstd", far.env())
			opt := pipeline.Options{Filters: chain(t, "exclude:pattern=var/x"), Verify: pipeline.VerifyFull}
			way := wayOf(t, src, item, target, far.host)
			r := copyImage(t, way, opt)
			got := readImage(t, way.Dest, "")
			if c := codecs(t, way.Dest, got); !slices.Equal(c, slices.Repeat([]layer.Codec{layer.Zstd}, 4)) || r.LayersFiltered != 2 || r.LayersRecoded != 1 {
				t.Errorf("%+v, layers are %s", r, c)
			}
			if want := (map[string]string{"etc/motd": "etc/motd"}); !maps.Equal(got.files[0], want) || !maps.Equal(got.files[2], want) || len(got.files[3]) != 0 {
				t.Errorf("files %v", got.files)
			}
			if again := copyImage(t, wayOf(t, src, item, target, far.host), opt); again.Status != oci.StatusSkipped {
				t.Errorf("second run: %+v", again)
			}
		})
	}
}

// Filters of the config alone leave layers to be recoded, and known by it.
func TestImageFilterAndRecoded(t *testing.T) {
	far := newFar(t)
	item := far.push(t, "org/app", "v1", fourLayers(t))
	target := openTarget(t, "ocidir://"+t.TempDir()+"/x?compression=zstd", far.env())
	opt := pipeline.Options{Filters: chain(t, "set-config:label=who=us")}
	way := far.image(t, item, target, far.host)
	copyImage(t, way, opt)
	got := readImage(t, way.Dest, "")
	if c := codecs(t, way.Dest, got); c[0] != layer.Zstd || got.cfg.Config.Labels["who"] != "us" {
		t.Errorf("%s, %s", c, got.config)
	}
	far.log()
	if again := copyImage(t, far.image(t, item, target, far.host), opt); again.Status != oci.StatusSkipped || count(far.log(), "GET", "/blobs/") > 1 {
		t.Errorf("second run: %+v", again)
	}
}

func TestRecodeRefuses(t *testing.T) {
	good := imagetest.Gzip(tarWith(t, tar.Header{Name: "a"}))
	lying := good
	lying.DiffID = digest.FromString("something else")
	fewer := imagetest.New(imagetest.Linux, nil, good)
	var m ocispec.Manifest
	if err := json.Unmarshal(fewer.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m.Layers = append(m.Layers, m.Layers[0])
	noGzip := imagetest.Blob(ocispec.MediaTypeImageLayerGzip, []byte("\x1f\x8b no gzip at all"))
	for name, tt := range map[string]struct {
		img  imagetest.Image
		kind error
		text string
	}{
		"another diffID":           {imagetest.New(imagetest.Linux, nil, lying), oci.ErrDigestMismatch, string(lying.DiffID)},
		"more layers than diffIDs": {remake(t, fewer, m), oci.ErrInvalid, "2 layers, but 1 diff_ids"},
		"damaged":                  {imagetest.New(imagetest.Linux, nil, noGzip), oci.ErrInvalid, string(noGzip.Desc.Digest)},
	} {
		for _, place := range []string{"registry", "ocidir"} {
			t.Run(place+" "+name, func(t *testing.T) {
				far, near := newFar(t), newFar(t)
				uri := map[string]string{"registry": "registry://" + near.host, "ocidir": "ocidir://" + t.TempDir() + "/x"}[place]
				way := far.image(t, far.push(t, "org/app", "v1", tt.img), openTarget(t, uri+"?compression=zstd", near.env()), near.host)
				_, err := pipeline.Copy(t.Context(), way, pipeline.Options{})
				if !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.text) {
					t.Fatalf("got %v, want %q", err, tt.text)
				}
				if _, err := way.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
					t.Errorf("the image is visible: %v", err)
				}
			})
		}
	}
}

// A plan reads no layer and writes nothing.
func TestRecodePlan(t *testing.T) {
	src, far := imagetest.NewPlain(t.TempDir()), newFar(t)
	item := src.Add("org/app", "v1", fourLayers(t))
	r := copyImage(t, wayOf(t, src, item, openTarget(t, "registry://"+far.host, far.env()), far.host), pipeline.Options{DryRun: true})
	if reads := src.Reads(); r.Status != oci.StatusPlanned || r.Written != "" || r.Digest != "" || len(reads) > 1 || r.BytesMoved < 1<<20 || r.LayersRecoded != 0 {
		t.Errorf("%+v, it read %v", r, reads)
	}
	if asked := far.log(); writes(asked) > 0 {
		t.Errorf("it asked %q", asked)
	}
}

// Layers that are foreign stay as they are: their addresses lead to these bytes.
func TestForeignLayersAreNotRecoded(t *testing.T) {
	far := newFar(t)
	foreign := imagetest.Gzip(tarWith(t, tar.Header{Name: "windows"}))
	foreign.Desc.MediaType, foreign.Desc.URLs = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []string{"https://example.com/x"}
	img := imagetest.New(imagetest.Linux, nil, foreign, imagetest.Gzip(tarWith(t, tar.Header{Name: "a"}))).Docker()
	item := far.push(t, "org/app", "v1", img)
	way := far.image(t, item, openTarget(t, "ocidir://"+t.TempDir()+"/x?compression=zstd", far.env()), far.host)
	r := copyImage(t, way, pipeline.Options{})
	got := readImage(t, way.Dest, "")
	if l := got.m.Layers[0]; r.LayersRecoded != 1 || l.Digest != foreign.Desc.Digest || l.MediaType != "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" || len(l.URLs) != 1 || got.m.Layers[1].MediaType != ocispec.MediaTypeImageLayerZstd {
		t.Errorf("%+v, %s", r, bytes.TrimSpace([]byte(got.raw)))
	}
}
