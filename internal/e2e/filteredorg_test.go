package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// TestSharedLayersAreFilteredOnce: 40 images on three common layers cost one
// pass for each distinct layer, and none in the next run, by the cache: a run
// without it does all of them again.
func TestSharedLayersAreFilteredOnce(t *testing.T) {
	const images, common = 40, 3
	from := startQuay(t, quaytest.Options{}, nil)
	base := []imagetest.Layer{imagetest.Random(1, 60_000), imagetest.Random(2, 40_000), imagetest.Random(3, 20_000)}
	for i := range images {
		own := imagetest.Files(map[string]string{"etc/app": fmt.Sprint("app ", i)})
		from.push(t, fmt.Sprintf("org/app-%02d:v1", i), imagetest.New(imagetest.Linux, nil, append(base[:common:common], own)...))
	}
	to := startRegistry(t, nil)
	dir := t.TempDir()
	cache := []string{"--layer-cache", filepath.Join(dir, "cache")}
	runs := []struct {
		flags    []string
		filtered int64
	}{{cache, common + images}, {cache, 0}, {nil, common + images}}
	for i, want := range runs {
		from.Reset()
		file := filepath.Join(dir, fmt.Sprintf("report%d.json", i))
		processed(t, append([]string{from.source(), "registry://" + to.host, "-f", "normalize-timestamps:ts=1600000000", "--rate-limit", "0", "--report", file}, want.flags...)...)
		r := readReport(t, file)
		if r.Totals.Failed > 0 || r.Totals.Images != images {
			t.Errorf("run %d: %+v", i, r.Totals)
		}
		if got := r.Transfers; got["layers_filtered"] != want.filtered || got["layers_unchanged"] != 0 {
			t.Errorf("run %d: transfers %v, want %d layers filtered", i, got, want.filtered)
		}
		for _, img := range from.images {
			m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range m.Layers {
				if n := from.fetched()[l.Digest]; int64(n)*(common+images) != want.filtered {
					t.Errorf("run %d: layer %s was read %d times", i, l.Digest, n)
				}
			}
		}
	}
	seen(t, to.host, "org/app-00:v1", seeImage)
	seen(t, to.host, "org/app-39:v1", seeImage)
}

// TestFilteredIndex: each image of an index goes through the filters, and the
// index is another only if one of them is.
func TestFilteredIndex(t *testing.T) {
	named := func(name, body string) imagetest.Layer { return imagetest.Files(map[string]string{name: body}) }
	common := named("usr/share/common", "both have it")
	idx := imagetest.Index(
		imagetest.New(imagetest.Linux, nil, common, named("etc/secret", "to be dropped")),
		imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, common, named("etc/other", "stays")))
	original := layoutOf(t, idx)

	if got := onlyDigest(t, filtered(t, original, "exclude:pattern=no/such/file")); got != idx.Desc.Digest {
		t.Errorf("nothing is dropped, and the index becomes %s, want %s", got, idx.Desc.Digest)
	}
	out := filtered(t, original, "exclude:pattern=etc/secret")
	valid(t, out)
	if got := onlyDigest(t, out); got == idx.Desc.Digest {
		t.Error("a file is dropped, and the index is what it was")
	}
	blobs := walkLayout(t, out).blobs
	if changed, same := idx.Children[0].Desc.Digest, idx.Children[1].Desc.Digest; blobs[changed] || !blobs[same] {
		t.Errorf("of what there was, %s is there: %v, want false; %s: %v, want true", changed, blobs[changed], same, blobs[same])
	}
}
