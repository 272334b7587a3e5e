package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/check"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/search"
)

// plainly keeps n images on common bases in a folder without manifests.
func plainly(t *testing.T, n int) *imagetest.Plain {
	t.Helper()
	p := imagetest.NewPlain(t.TempDir())
	for i := range n {
		p.Add(fmt.Sprintf("org/app-%02d", i), "v1", app(i))
	}
	return p
}

// storing opens the registry f as a target that stores layers so.
func (f *far) storing(t *testing.T, compression string) oci.Target {
	t.Helper()
	return openTarget(t, "registry://"+f.host+"?compression="+compression, f.env())
}

// items lists src.
func items(t *testing.T, src backend.Images) (all []oci.Item) {
	t.Helper()
	for item, err := range src.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item)
	}
	return all
}

// Each distinct layer is compressed once, whichever images share it, and never
// again: their configs tell what is in the layers that are there.
func TestDistinctLayersAreRecodedOnce(t *testing.T) {
	const many = 8
	const layers = int64(3 + many)
	for _, from := range []string{"manifests", "none"} {
		for _, kind := range []string{"registry", "ocidir"} {
			for _, cache := range []string{"", filepath.Join(t.TempDir(), "cache.json")} {
				t.Run(fmt.Sprintf("%s to %s, cache %v", from, kind, cache != ""), func(t *testing.T) {
					var src backend.Images
					org := organisation(t, many)
					plain := plainly(t, many)
					if src = org; from == "none" {
						src = plain
					}
					reads := func() map[string]int {
						if from == "manifests" {
							return blobReads(org.log())
						}
						out := map[string]int{}
						for d, n := range plain.Reads() {
							out[string(d)] = n
						}
						return out
					}
					near := newFar(t)
					dst, opt := near.storing(t, "zstd"), filtering(t, near, cache)
					if kind == "ocidir" {
						dst, opt.Name = openTarget(t, "ocidir://"+t.TempDir()+"/x?compression=zstd", backend.Env{}), nil
					}
					r := mustCopy(t, src, dst, opt)
					rewritten := many
					if from == "none" {
						rewritten = 0
					}
					if n := r.Totals; n.Copied != many || n.Verified != many || n.Rewritten != rewritten {
						t.Errorf("totals %+v, want %d images copied and verified, and %d rewritten", n, many, rewritten)
					}
					if n := r.Transfers; n["layers_recoded"] != layers || n["layers_filtered"] != 0 || n["blobs_fetched"] != layers+many || n["layers_from_cache"] != 0 {
						t.Errorf("transfers %v, want each of %d layers, and each config, fetched and the layers recoded once", n, layers)
					}
					for d, n := range reads() {
						if n != 1 {
							t.Errorf("%s was fetched %d times", d, n)
						}
					}
					for i, item := range items(t, src) {
						d, m := written(t, dst, to(t, opt, item))
						if rep := r.Images[i]; rep.Written != d.Digest || (rep.Digest == "") != (from == "none") || rep.LayersRecoded != 4 {
							t.Errorf("%+v, %s is there", rep, d.Digest)
						}
						for _, l := range m.Layers {
							if l.MediaType != ocispec.MediaTypeImageLayerZstd {
								t.Errorf("%s: a layer of %s", item.Ref, l.MediaType)
							}
						}
					}

					again := mustCopy(t, src, dst, opt)
					if n := again.Transfers; again.Totals.Skipped != many || n["layers_recoded"] != 0 || n["blobs_put"] != 0 || again.Totals.Rewritten != 0 {
						t.Errorf("second run: %+v, %v, want all skipped", again.Totals, n)
					}
					if reads := reads(); len(reads) > many {
						t.Errorf("second run read %d blobs, want configs at most", len(reads))
					}

					// Without the names, the blobs are there, and the cache says which.
					opt.Name = func(item oci.Item) (oci.Ref, error) {
						ref := item.Ref
						if kind == "registry" {
							ref.Registry = near.host
						}
						ref.Tag = "other"
						return ref, nil
					}
					third := mustCopy(t, src, dst, opt)
					if n := third.Transfers; cache != "" && (third.Totals.Copied != many || n["layers_recoded"] != 0 || n["layers_from_cache"] != layers || n["blobs_put"] != 0) {
						t.Errorf("under other names: %+v, %v, want %d layers from the cache", third.Totals, n, layers)
					}
				})
			}
		}
	}
}

// Layers that come as they are to be aren't touched, and an index counts as its
// images do.
func TestOnlyOtherLayersAreRecoded(t *testing.T) {
	src, near := organisation(t, 2), newFar(t)
	arm := imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, bases...)
	src.add(t, "org/index", "v1", imagetest.Index(app(1), arm))
	src.add(t, "org/docker", "v1", app(0).Docker())
	opt := filtering(t, near, "")
	if r := mustCopy(t, src, near.storing(t, "gzip"), opt); r.Transfers["layers_recoded"] != 0 || r.Totals.Rewritten != 0 || r.Totals.Copied != 4 {
		t.Errorf("%+v, %v: want all as they were", r.Totals, r.Transfers)
	}
	src.log()
	if r := mustCopy(t, src, near.storing(t, "gzip"), opt); r.Totals.Skipped != 4 || len(blobReads(src.log())) != 0 {
		t.Errorf("second run: %+v", r.Totals)
	}
	r := mustCopy(t, src, near.storing(t, "none"), opt)
	if r.Transfers["layers_recoded"] != 5 || r.Totals.Rewritten != 4 || r.Totals.Copied != 4 {
		t.Errorf("%+v, %v: want five layers without compression", r.Totals, r.Transfers)
	}
	for _, item := range src.items {
		if _, m := written(t, near.target(t), to(t, opt, item)); !m.IsIndex() && strings.HasSuffix(m.Layers[0].MediaType, "gzip") {
			t.Errorf("%s: %s", item.Ref, m.Layers[0].MediaType)
		}
	}
}

// A layer cache tells filters, and compressions, and filters with compression, apart.
func TestLayerCacheKeepsCodecsApart(t *testing.T) {
	src, near, cache := organisation(t, 2), newFar(t), filepath.Join(t.TempDir(), "cache.json")
	seen := map[oci.Digest]string{}
	for round := range 2 {
		for _, way := range []struct {
			compression string
			specs       []string
		}{
			{"zstd", nil}, {"none", nil}, {"keep", []string{"normalize-timestamps:ts=1"}}, {"zstd", []string{"normalize-timestamps:ts=1"}}, {"zstd", []string{"exclude:pattern=no/such"}},
		} {
			name := fmt.Sprint(way)
			opt := filtering(t, near, cache, way.specs...)
			opt.Name = func(item oci.Item) (oci.Ref, error) {
				ref, err := near.to(item)
				ref.Tag = fmt.Sprintf("%s-%d-%d", way.compression, len(way.specs), round)
				return ref, err
			}
			r := mustCopy(t, src, near.storing(t, way.compression), opt)
			n := r.Transfers
			if made := n["layers_recoded"] + n["layers_filtered"] + n["layers_unchanged"]; (made == 0) != (round == 1) || r.Totals.Copied+r.Totals.Skipped != 2 {
				t.Errorf("round %d, %s: %+v, %v", round, name, r.Totals, n)
			}
			d, _ := written(t, near.target(t), to(t, opt, src.items[0]))
			if before := seen[d.Digest]; before != "" && round == 0 && !strings.Contains(name, "no/such") {
				t.Errorf("%s comes to what %s did", name, before)
			}
			seen[d.Digest] = name
		}
	}
}

// An image that says something else of a layer that others share fails alone,
// whichever is first.
func TestLyingDiffIDFailsAlone(t *testing.T) {
	for _, first := range []bool{true, false} {
		src, near := &images{far: newFar(t)}, newFar(t)
		lying := slices.Clone(bases)
		lying[0].DiffID = lying[1].DiffID
		for i := range 8 {
			if img := app(i); (i < 4) == first {
				src.add(t, fmt.Sprintf("org/bad-%d", i), "v1", imagetest.New(imagetest.Linux, map[string]string{"n": fmt.Sprint(i)}, lying...))
			} else {
				src.add(t, fmt.Sprintf("org/good-%d", i), "v1", img)
			}
		}
		opt := filtering(t, near, "")
		opt.Images = 1
		r, err := bulk.Copy(t.Context(), src, near.storing(t, "zstd"), opt)
		if !errors.Is(err, oci.ErrDigestMismatch) || r.Totals.Failed != 4 || r.Totals.Copied != 4 {
			t.Errorf("got %v, %+v", err, r.Totals)
		}
		for _, i := range r.Images {
			if (i.Status == oci.StatusFailed) != strings.Contains(i.Reference, "bad") || i.Status == oci.StatusFailed && i.Step != "recode layer" {
				t.Errorf("%s: %s at %q, %s", i.Reference, i.Status, i.Step, i.Error)
			}
		}
	}
}

// A run that is stopped goes on, and what is visible at any time is whole.
func TestStoppedRecodingGoesOn(t *testing.T) {
	src, near := large(t, 6), newFar(t)
	opt := filtering(t, near, "")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var put atomic.Int64
	near.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && put.Add(1) == 3 {
			stop()
		}
		return false
	})
	first, err := bulk.Copy(ctx, src, near.storing(t, "zstd"), opt)
	if !errors.Is(err, context.Canceled) || first.Totals.Interrupted == 0 {
		t.Fatalf("got %v, %+v, want a run that was stopped", err, first.Totals)
	}
	done := 0
	for i, item := range src.items {
		if i < len(first.Images) && first.Images[i].Status == oci.StatusCopied {
			written(t, near.target(t), to(t, opt, item))
			done++
		}
	}
	r := mustCopy(t, src, near.storing(t, "zstd"), opt)
	if r.Totals.Skipped < done || r.Totals.Skipped+r.Totals.Copied != 6 {
		t.Errorf("second run: %+v, after %d copied", r.Totals, done)
	}
	for _, item := range src.items {
		written(t, near.target(t), to(t, opt, item))
	}
}

// An image without a manifest is told of, checked and searched for what it is.
func TestImagesWithoutManifests(t *testing.T) {
	p := plainly(t, 1)
	for info, err := range bulk.Inspect(t.Context(), p, bulk.Options{}) {
		if err != nil || info.ManifestInfo != nil || info.Digest != "" || len(info.TarLayers) != 4 || info.Architecture != "amd64" || *info.TarLayers[1].CreatedBy != "layer 1" {
			t.Errorf("info %+v, %v", info, err)
		}
	}
	for r, err := range bulk.Check(t.Context(), p, check.New(check.Options{}), bulk.Options{}) {
		if err != nil || r.Errors+r.Warnings > 0 {
			t.Errorf("check %+v, %v", r, err)
		}
		ids := map[string]int{}
		for _, f := range r.Results {
			ids[f.Check]++
		}
		for _, id := range []string{"schema-version", "oci-media-type", "config-descriptor", "config-digest", "config-size", "layer-count"} {
			if ids[id] != 0 {
				t.Errorf("%s is told of a manifest that there isn't", id)
			}
		}
		if ids["diff-id"] != 4 || ids["rootfs-type"] != 1 {
			t.Errorf("checks %v, want four diff_ids", ids)
		}
	}
	q := search.Query{Name: func(name string) bool { return name == "etc/os" }, Details: true}
	found := 0
	for s, err := range bulk.Search(t.Context(), p, search.New(q, search.Options{}), bulk.Options{}) {
		if err != nil {
			t.Error(err)
		}
		for _, r := range s.Results {
			for l := range r.Found() {
				if found++; l.DiffID != l.Digest {
					t.Errorf("layer %s with diffID %s", l.Digest, l.DiffID)
				}
			}
		}
	}
	if found != 1 {
		t.Errorf("found %d files, want one", found)
	}
	for item, err := range bulk.List(t.Context(), p, true, bulk.Options{}) {
		if err != nil || item.Bytes < 60_000 || !oci.IsSynthetic(item.Desc) {
			t.Errorf("%+v, %v", item, err)
		}
	}
}
