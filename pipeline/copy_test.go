package pipeline_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

var arm64 = oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}

// layered is an image for p of a base layer that all share and one of its own.
func layered(p oci.Platform, seed uint64) imagetest.Image {
	return imagetest.New(p, nil, imagetest.Files(map[string]string{"etc/base": "all the same"}), imagetest.Random(seed, 3000))
}

// attested is an index of an image for each platform, with an attestation each.
func attested(t *testing.T, platforms ...oci.Platform) imagetest.Image {
	t.Helper()
	var images []imagetest.Image
	for i, p := range platforms {
		images = append(images, layered(p, uint64(i)))
	}
	for i := range platforms {
		a := imagetest.New(oci.Platform{OS: "unknown", Architecture: "unknown"}, map[string]string{"of": string(images[i].Desc.Digest)})
		images = append(images, a)
	}
	idx := imagetest.Index(images...)
	var m ocispec.Index
	if err := json.Unmarshal(idx.Raw, &m); err != nil {
		t.Fatal(err)
	}
	for i := range platforms {
		m.Manifests[len(platforms)+i].Annotations = map[string]string{
			"vnd.docker.reference.type":   "attestation-manifest",
			"vnd.docker.reference.digest": string(images[i].Desc.Digest),
		}
	}
	return remake(t, idx, m)
}

// remake gives img the manifest m.
func remake(t *testing.T, img imagetest.Image, m any) imagetest.Image {
	t.Helper()
	raw, err := json.MarshalIndent(m, "", "\t") // white space that no copy may change
	if err != nil {
		t.Fatal(err)
	}
	img.Raw = raw
	img.Desc.Digest, img.Desc.Size = digest.FromBytes(raw), int64(len(raw))
	return img
}

func TestIndexPassesByteForByte(t *testing.T) {
	for _, dest := range []string{"registry", "ocidir"} {
		t.Run(dest, func(t *testing.T) {
			far, near := newFar(t), newFar(t)
			inner := imagetest.Index(layered(imagetest.Linux, 8), layered(arm64, 9))
			outer := attested(t, imagetest.Linux, arm64)
			var m ocispec.Index
			if err := json.Unmarshal(outer.Raw, &m); err != nil {
				t.Fatal(err)
			}
			m.Manifests = append(m.Manifests, inner.Desc)
			outer.Children = append(outer.Children, inner)
			outer = remake(t, outer, m)
			item := far.push(t, "org/app", "v1", outer)

			uri, host := "ocidir://"+t.TempDir()+"/x", far.host
			if dest == "registry" {
				uri, host = "registry://"+near.host, near.host
			}
			target := openTarget(t, uri, near.env())
			img := far.image(t, item, target, host)
			r := copyImage(t, img, pipeline.Options{Verify: pipeline.VerifyFull})
			if r.Status != oci.StatusCopied || !r.Verified || r.Written != "" {
				t.Errorf("got %+v, want copied and verified, digest as it was", r)
			}
			if want := 8; r.Layers != want { // four images of two layers
				t.Errorf("%d layers, want %d", r.Layers, want)
			}
			check := func(want imagetest.Image) {
				_, raw, err := img.Dest.Resolve(t.Context(), string(want.Desc.Digest))
				if err != nil || string(raw) != string(want.Raw) {
					t.Errorf("%s: got %q, %v, want the source's bytes", want.Desc.Digest, raw, err)
				}
			}
			check(outer)
			for _, c := range append(outer.Children, inner.Children...) {
				check(c)
			}
			if got := count(far.log(), "GET", "/manifests/"); got != 8 {
				t.Errorf("%d manifests read, want each of 8 once", got)
			}

			// The second time: nothing but a look at each side.
			near.log()
			again := far.image(t, item, target, host)
			if r := copyImage(t, again, pipeline.Options{}); r.Status != oci.StatusSkipped {
				t.Errorf("second run: got %s, want skipped", r.Status)
			}
			if asked := append(far.log(), near.log()...); len(asked) > 1 {
				t.Errorf("second run of a listed image asked %q, want the destination's name at most", asked)
			}
			again.Item.Desc.Digest = "" // a listing that knows no digests
			if r := copyImage(t, again, pipeline.Options{}); r.Status != oci.StatusSkipped || r.Digest != outer.Desc.Digest {
				t.Errorf("second run without a listed digest: got %+v, want skipped", r)
			}
			if asked := far.log(); len(asked) != 1 {
				t.Errorf("the source was asked %q, want one HEAD", asked)
			}
		})
	}
}

func TestFirstCopyAsksNoHeadAtTheSource(t *testing.T) {
	far, near := newFar(t), newFar(t)
	item := far.push(t, "org/app", "v1", layered(imagetest.Linux, 1))
	item.Desc.Digest = ""
	copyImage(t, far.image(t, item, openTarget(t, "registry://"+near.host, near.env()), near.host), pipeline.Options{})
	asked := far.log()
	if count(asked, "HEAD", "") != 0 || count(asked, "GET", "/manifests/") != 1 || count(asked, "GET", "/blobs/") != 3 {
		t.Errorf("the source was asked %q, want one manifest and three blobs", asked)
	}
	last := slices.IndexFunc(near.log(), func(s string) bool { return s == "PUT /v2/org/app/manifests/v1" })
	if last < 0 {
		t.Error("the manifest was not put under its tag")
	}
}

func TestPlatforms(t *testing.T) {
	s390x := oci.Platform{OS: "linux", Architecture: "s390x"}
	far := newFar(t)
	index := attested(t, imagetest.Linux, arm64, s390x)
	single := layered(arm64, 7)
	items := map[string]oci.Item{"index": far.push(t, "org/app", "v1", index), "single": far.push(t, "org/one", "v1", single)}

	tests := []struct {
		name      string
		item      string
		platforms []oci.Platform
		want      oci.Digest // "" is another than the source's
		fails     string
		leftOut   []string
	}{
		{"one takes the child as it is", "index", []oci.Platform{arm64}, index.Children[1].Desc.Digest, "", []string{"linux/amd64", "linux/s390x"}},
		{"several make an index", "index", []oci.Platform{s390x, imagetest.Linux}, "", "", []string{"linux/arm64/v8"}},
		{"all are the index itself", "index", []oci.Platform{s390x, imagetest.Linux, arm64}, index.Desc.Digest, "", nil},
		{"one is missing", "index", []oci.Platform{imagetest.Linux, {OS: "linux", Architecture: "riscv64"}}, "", "platform linux/riscv64: not found; the index has linux/amd64, linux/arm64/v8, linux/s390x", nil},
		{"no index, right platform", "single", []oci.Platform{imagetest.Linux, {OS: "linux", Architecture: "arm64"}}, single.Desc.Digest, "", nil},
		{"no index, wrong platform", "single", []oci.Platform{imagetest.Linux}, "", "platform linux/amd64: not found; the image is for linux/arm64/v8", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			target := openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env())
			img := far.image(t, items[tt.item], target, far.host)
			opt := pipeline.Options{Platforms: tt.platforms, Verify: pipeline.VerifyFull}
			r, err := pipeline.Copy(t.Context(), img, opt)
			if tt.fails != "" {
				if !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), tt.fails) || r.Status != oci.StatusFailed {
					t.Fatalf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil || r.Status != oci.StatusCopied || !slices.Equal(r.LeftOut, tt.leftOut) {
				t.Fatalf("got %+v, %v, want left out %v", r, err, tt.leftOut)
			}
			d, raw, err := img.Dest.Resolve(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if tt.want != "" && d.Digest != tt.want {
				t.Errorf("wrote %s, want %s", d.Digest, tt.want)
			}
			if changed := d.Digest != items[tt.item].Desc.Digest; changed != (r.Written != "") || changed && r.Written != d.Digest {
				t.Errorf("the report says %q was written, it is %s", r.Written, d.Digest)
			}
			if tt.want == "" {
				m, err := oci.ParseManifest(d.MediaType, raw)
				if err != nil || d.MediaType != index.Desc.MediaType || len(m.Manifests) != 4 {
					t.Errorf("got %s, %v, want an index of two images and their attestations", raw, err)
				}
			}
			far.log()
			if r := copyImage(t, far.image(t, items[tt.item], target, far.host), opt); r.Status != oci.StatusSkipped {
				t.Errorf("second run: got %s, want skipped", r.Status)
			}
			if asked := far.log(); len(asked) > 1 {
				t.Errorf("second run asked the source %q, want one request at most", asked)
			}
		})
	}
}

func TestPlaceWithoutIndexesTakesLinuxAMD64(t *testing.T) {
	far := newFar(t)
	item := far.push(t, "org/app", "v1", attested(t, arm64, imagetest.Linux))
	target := openTarget(t, "dir://"+t.TempDir()+"/x", far.env())
	var warned []string
	opt := pipeline.Options{Warn: func(s string) { warned = append(warned, s) }}
	r := copyImage(t, far.image(t, item, target, far.host), opt)
	if !slices.Equal(r.Platforms, []string{"linux/amd64"}) || !slices.Equal(r.LeftOut, []string{"linux/arm64/v8"}) || r.Layers != 2 {
		t.Errorf("got %+v, want linux/amd64 of two layers", r)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "left out linux/arm64/v8") {
		t.Errorf("warned %q, want one line that names what was left out", warned)
	}
	far.log()
	if r := copyImage(t, far.image(t, item, target, far.host), opt); r.Status != oci.StatusSkipped {
		t.Errorf("second run: got %s, want skipped", r.Status)
	}
	if asked := far.log(); len(asked) != 0 {
		t.Errorf("second run asked the source %q, though the listing's digest tells", asked)
	}
	other := pipeline.Options{Platforms: []oci.Platform{arm64}}
	if r := copyImage(t, far.image(t, item, target, far.host), other); r.Status != oci.StatusCopied {
		t.Errorf("another platform: got %s, want copied", r.Status)
	}
	if r := copyImage(t, far.image(t, item, target, far.host), other); r.Status != oci.StatusSkipped {
		t.Errorf("the other platform again: got %s, want skipped", r.Status)
	}
	if r := copyImage(t, far.image(t, item, target, far.host), opt); r.Status != oci.StatusCopied {
		t.Errorf("the first platform again: got %s, want copied", r.Status)
	}
	_, err := pipeline.Copy(t.Context(), far.image(t, item, target, far.host), pipeline.Options{Platforms: []oci.Platform{arm64, imagetest.Linux}})
	if !errors.Is(err, oci.ErrUsage) {
		t.Errorf("two platforms: got %v, want a usage error", err)
	}
}

func TestMissingChildIsAnError(t *testing.T) {
	far := newFar(t)
	index := attested(t, imagetest.Linux, arm64)
	item := far.push(t, "org/app", "v1", index)
	missing := index.Children[1].Desc.Digest
	far.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, string(missing)) {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	img := far.image(t, item, openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
	r, err := pipeline.Copy(t.Context(), img, pipeline.Options{})
	if !errors.Is(err, oci.ErrNotFound) || r.Status != oci.StatusFailed || r.Step != "get manifest" {
		t.Fatalf("got %+v, %v, want not found", r, err)
	}
	for _, part := range []string{"copy " + item.Ref.String(), "get manifest", string(missing), "404"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
	if _, err := img.Dest.Head(t.Context(), ""); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("the image is visible: %v", err)
	}
}

func TestIndexLiesAboutItsChild(t *testing.T) {
	far := newFar(t)
	index := attested(t, imagetest.Linux)
	var m ocispec.Index
	if err := json.Unmarshal(index.Raw, &m); err != nil {
		t.Fatal(err)
	}
	m.Manifests[0].Size++
	item := far.push(t, "org/app", "v1", remake(t, index, m))
	img := far.image(t, item, openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
	if r, err := pipeline.Copy(t.Context(), img, pipeline.Options{}); !errors.Is(err, oci.ErrDigestMismatch) || r.Step != "get manifest" {
		t.Errorf("got %v, want a digest mismatch of the manifest", err)
	}
}

func TestIndexesNestOnlySoDeep(t *testing.T) {
	far := newFar(t)
	img := imagetest.Index(layered(imagetest.Linux, 1))
	for range 6 {
		var m ocispec.Index
		m.SchemaVersion, m.MediaType, m.Manifests = 2, oci.MediaTypeIndex, []oci.Descriptor{img.Desc}
		img = remake(t, imagetest.Image{Desc: img.Desc, Children: []imagetest.Image{img}}, m)
	}
	item := far.push(t, "org/app", "v1", img)
	way := far.image(t, item, openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
	if _, err := pipeline.Copy(t.Context(), way, pipeline.Options{}); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	far, near := newFar(t), newFar(t)
	index := attested(t, imagetest.Linux, arm64)
	item := far.push(t, "org/app", "v1", index)
	target := openTarget(t, "registry://"+near.host, near.env())
	copyImage(t, far.image(t, far.push(t, "org/app", "old", index.Children[0]), target, near.host), pipeline.Options{})
	near.log()
	far.log()
	r := copyImage(t, far.image(t, item, target, near.host), pipeline.Options{DryRun: true})
	base := index.Children[0].Blobs
	if r.Status != oci.StatusPlanned || r.Verified || r.BlobsPresent < len(base) || r.BlobsMoved == 0 {
		t.Errorf("got %+v, want a plan that knows what is there", r)
	}
	if asked := append(near.log(), far.log()...); writes(asked) != 0 || count(asked, "GET", "/blobs/") != 0 {
		t.Errorf("a dry run asked %q, want only reads of manifests", asked)
	}
	if r := copyImage(t, far.image(t, item, target, near.host), pipeline.Options{}); r.Status != oci.StatusCopied {
		t.Errorf("after it: got %s, want copied", r.Status)
	}
}

func TestNoVerifySaysNothing(t *testing.T) {
	far := newFar(t)
	item := far.push(t, "org/app", "v1", layered(imagetest.Linux, 1))
	target := openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env())
	if r := copyImage(t, far.image(t, item, target, far.host), pipeline.Options{Verify: pipeline.VerifyNone}); r.Verified {
		t.Error("the report says verified")
	}
	if r := copyImage(t, far.image(t, item, target, far.host), pipeline.Options{Verify: pipeline.VerifyFull}); r.Status != oci.StatusSkipped || !r.Verified {
		t.Errorf("a full check of what is there: got %+v, want skipped and verified", r)
	}
}

// A listing that doesn't know an index for one mustn't make a choice of
// platforms look done.
func TestChoiceAfterTheWhole(t *testing.T) {
	far := newFar(t)
	index := attested(t, imagetest.Linux, arm64)
	item := far.push(t, "org/app", "v1", index)
	item.IsIndex = false
	target := openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env())
	copyImage(t, far.image(t, item, target, far.host), pipeline.Options{})
	r := copyImage(t, far.image(t, item, target, far.host), pipeline.Options{Platforms: []oci.Platform{arm64}})
	if r.Status != oci.StatusCopied || r.Written != index.Children[1].Desc.Digest {
		t.Errorf("got %+v, want linux/arm64 copied", r)
	}
}

// A config that had to be understood isn't fetched again to be copied.
func TestConfigIsReadOnce(t *testing.T) {
	far := newFar(t)
	img := layered(imagetest.Linux, 1)
	m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	opt := pipeline.Options{Platforms: []oci.Platform{imagetest.Linux}}
	for _, uri := range []string{"ocidir://", "dir://"} {
		target := openTarget(t, uri+t.TempDir()+"/x", far.env())
		for _, tag := range []string{"v1", "v2"} {
			copyImage(t, far.image(t, far.push(t, "org/app", tag, img), target, far.host), opt)
			want := 1
			if tag == "v2" && uri == "dir://" {
				want = 0 // the folder has it
			}
			if got := count(far.log(), "GET", string(m.Config.Digest)); got != want {
				t.Errorf("%s %s: the config was read %d times, want %d", uri, tag, got, want)
			}
		}
	}
}

// Build caches are indexes of blobs.
func TestIndexOfBlobs(t *testing.T) {
	far := newFar(t)
	cache := layered(imagetest.Linux, 5)
	item := far.push(t, "org/cache", "blobs", cache)
	m, err := oci.ParseManifest(cache.Desc.MediaType, cache.Raw)
	if err != nil {
		t.Fatal(err)
	}
	index := ocispec.Index{MediaType: oci.MediaTypeIndex, Manifests: m.Layers}
	index.SchemaVersion = 2
	img := remake(t, imagetest.Image{}, index)
	far.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/org/cache/manifests/v1" {
			return false
		}
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		_, _ = w.Write(img.Raw)
		return true
	})
	item.Ref.Tag, item.Desc.Digest = "v1", ""
	way := far.image(t, item, openTarget(t, "ocidir://"+t.TempDir()+"/x", far.env()), far.host)
	if r := copyImage(t, way, pipeline.Options{Verify: pipeline.VerifyNone}); r.BlobsMoved != 2 || r.Digest != img.Desc.Digest {
		t.Errorf("got %+v, want two blobs", r)
	}
}
