package bulk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

func chain(t *testing.T, specs ...string) filter.Chain {
	t.Helper()
	c, err := filter.ParseAll(specs, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// filtering are options with filters, and a layer cache at path unless it is "".
func filtering(t *testing.T, near *far, path string, specs ...string) bulk.Options {
	t.Helper()
	opt := bulk.Options{Filters: chain(t, specs...), FilterSpecs: specs, LayerCache: path, Verify: pipeline.VerifyFull}
	if near != nil {
		opt.Name = near.to
	}
	opt.Warn = func(s string) { t.Log(s) }
	return opt
}

// written reads the image called name from a place back, and checks that each
// diffID of its config is its layer's.
func written(t *testing.T, dst oci.Target, name oci.Ref) (oci.Descriptor, *oci.Manifest) {
	t.Helper()
	dest, err := dst.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer dest.Close()
	d, raw, err := dest.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	if m.IsIndex() {
		return d, m
	}
	var cfg ocispec.Image
	if err := json.Unmarshal(readAll(t, dest, *m.Config), &cfg); err != nil {
		t.Fatal(err)
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		t.Fatalf("%s: %d diff_ids of %d layers", name, len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	for i, l := range m.Layers {
		rc, err := dest.Fetch(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		r, err := layer.Open(rc, layer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h := digest.Canonical.Digester()
		if _, err := io.Copy(h.Hash(), r); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Close(), rc.Close()); err != nil {
			t.Fatal(err)
		}
		if h.Digest() != cfg.RootFS.DiffIDs[i] {
			t.Errorf("%s: layer %d is %s, the config says %s", name, i, h.Digest(), cfg.RootFS.DiffIDs[i])
		}
	}
	return d, m
}

func readAll(t *testing.T, src oci.Source, d oci.Descriptor) []byte {
	t.Helper()
	rc, err := src.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Each distinct layer is rewritten once, and with the layer cache never again.
func TestDistinctLayersAreFilteredOnce(t *testing.T) {
	const layers = int64(3 + many)
	for _, kind := range []string{"registry", "ocidir", "dir"} {
		t.Run(kind, func(t *testing.T) {
			src, near, cache := organisation(t, many), newFar(t), filepath.Join(t.TempDir(), "cache.json")
			open := func() (oci.Target, bulk.Options) {
				switch kind {
				case "registry":
					near = newFar(t)
					return near.target(t), filtering(t, near, cache, "normalize-timestamps")
				case "ocidir":
					return layout(t), filtering(t, nil, cache, "normalize-timestamps")
				}
				return openTarget(t, "dir://"+t.TempDir()+"/x?unique_names=true", backend.Env{}), filtering(t, nil, cache, "normalize-timestamps")
			}
			dst, opt := open()
			r := mustCopy(t, src, dst, opt)
			if n := r.Totals; n.Copied != many || n.Verified != many || kind != "dir" && n.Rewritten != many {
				t.Errorf("totals %+v, want %d images copied, verified and rewritten", n, many)
			}
			if n := r.Transfers; n["layers_filtered"] != layers || n["layers_unchanged"] != 0 || n["blobs_fetched"] != layers+many || n["layers_from_cache"] != 0 {
				t.Errorf("transfers %v, want each of %d layers, and each config, fetched once, and the layers filtered once", n, layers)
			}
			for d, n := range blobReads(src.log()) {
				if n != 1 {
					t.Errorf("%s was fetched %d times", d, n)
				}
			}
			digests := map[oci.Digest]bool{}
			if kind != "dir" {
				for _, item := range src.items {
					d, m := written(t, dst, to(t, opt, item))
					digests[d.Digest] = true
					if d.Digest == item.Desc.Digest || m.Layers[0].MediaType != ocispec.MediaTypeImageLayerGzip {
						t.Errorf("%s: got %+v, want another gzip-ed image", item.Ref, d)
					}
				}
			}

			// The second run knows what comes of each image without reading a layer.
			again := mustCopy(t, src, dst, opt)
			if n := again.Transfers; again.Totals.Skipped != many || n["layers_filtered"] != 0 || n["blobs_put"] != 0 {
				t.Errorf("second run: %+v, %v, want all skipped", again.Totals, n)
			}
			if asked := src.log(); count(asked, "GET", "/blobs/") > many {
				t.Errorf("second run read %d blobs, want configs at most", count(asked, "GET", "/blobs/"))
			}

			// Without the names, the blobs are there, and the cache says which.
			if kind == "registry" {
				opt.Name = func(item oci.Item) (oci.Ref, error) {
					ref, err := near.to(item)
					ref.Tag = "other"
					return ref, err
				}
				third := mustCopy(t, src, dst, opt)
				if n := third.Transfers; third.Totals.Copied != many || n["layers_filtered"] != 0 || n["layers_from_cache"] != layers {
					t.Errorf("under other names: %+v, %v, want %d layers from the cache", third.Totals, n, layers)
				}
			}

			// Elsewhere the cache knows, but the blobs aren't there: it isn't believed.
			dst, opt = open()
			fresh := mustCopy(t, src, dst, opt)
			if n := fresh.Transfers; fresh.Totals.Copied != many || n["layers_filtered"] != layers || n["layers_from_cache"] != 0 {
				t.Errorf("elsewhere: %+v, %v, want all made again", fresh.Totals, n)
			}
			for _, item := range src.items {
				if kind == "dir" {
					break
				}
				if d, _ := written(t, dst, to(t, opt, item)); !digests[d.Digest] {
					t.Errorf("%s is %s the second time", item.Ref, d.Digest)
				}
			}
		})
	}
}

func to(t *testing.T, opt bulk.Options, item oci.Item) oci.Ref {
	t.Helper()
	if opt.Name == nil {
		return item.Ref
	}
	ref, err := opt.Name(item)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// large lists n images that share a layer, and have one each, which are too
// large to be held in memory.
func large(t *testing.T, n int) *images {
	t.Helper()
	m := &images{far: newFar(t)}
	for i := range n {
		m.add(t, fmt.Sprintf("org/app-%02d", i), "v1", imagetest.New(imagetest.Linux, nil,
			imagetest.Random(1, 900_000), imagetest.Files(map[string]string{"a": "b"}), imagetest.Random(uint64(1000+i), 700_000)))
	}
	return m
}

// Without a cache the work is done again, but nothing that is there is sent.
func TestSecondRunWithoutCacheSendsNothing(t *testing.T) {
	src, near := large(t, 7), newFar(t)
	dst, opt := near.target(t), filtering(t, near, "", "normalize-timestamps")
	first := mustCopy(t, src, dst, opt)
	if n := count(near.log(), "PATCH", ""); n != 8 || first.Transfers["layers_filtered"] != 9 {
		t.Errorf("%v with %d uploads while layers are made, want 8 of 9", first.Transfers, n)
	}
	near.log()
	r := mustCopy(t, src, dst, opt)
	if n := r.Transfers; r.Totals.Skipped != 7 || n["blobs_put"] != 0 || n["layers_filtered"] != 9 {
		t.Errorf("got %+v, %v, want nine layers filtered, nothing put and all skipped", r.Totals, n)
	}
	if asked := near.log(); count(asked, "POST", "")-count(asked, "POST", "?mount")+count(asked, "PUT", "")+count(asked, "PATCH", "") != 0 {
		t.Errorf("the destination was sent %q", asked)
	}
}

// A filter that touches nothing leaves every digest, and the layers go by the
// same ways as without it.
func TestFilterThatTouchesNothing(t *testing.T) {
	for _, kind := range []string{"registry", "ocidir", "dir"} {
		t.Run(kind, func(t *testing.T) {
			src, near := large(t, 2), newFar(t)
			for i := range 8 {
				src.add(t, fmt.Sprintf("org/small-%d", i), "v1", app(i))
			}
			src.add(t, "org/index", "v1", imagetest.Index(app(1), imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, bases...)))
			dst, opt := near.target(t), filtering(t, near, "", "exclude:pattern=no/such/**", "chown:uid=0,gid=0")
			switch kind {
			case "ocidir":
				dst, opt.Name = layout(t), nil
			case "dir":
				dst, opt.Name = openTarget(t, "dir://"+t.TempDir()+"/x?unique_names=true", backend.Env{}), nil
			}
			r := mustCopy(t, src, dst, opt)
			if n := r.Transfers; r.Totals.Copied != 11 || r.Totals.Rewritten != 0 || n["layers_filtered"] != 0 || n["layers_unchanged"] != 15 || n["layers_unchanged_refetched"] != 15 {
				t.Errorf("got %+v, %v, want 15 layers read once and once more to be copied", r.Totals, n)
			}
			for _, item := range src.items {
				if kind == "dir" {
					break
				}
				if d, _ := written(t, dst, to(t, opt, item)); d.Digest != item.Desc.Digest {
					t.Errorf("%s became %s", item.Ref, d.Digest)
				}
			}
			if r := mustCopy(t, src, dst, opt); r.Totals.Skipped != 11 {
				t.Errorf("second run: %+v, want all skipped", r.Totals)
			}
		})
	}
}

// An interrupt or a failure keeps what was learnt.
func TestLayerCacheOfARunThatFailed(t *testing.T) {
	src, near, cache := organisation(t, 6), newFar(t), filepath.Join(t.TempDir(), "cache.json")
	dst, opt := near.target(t), filtering(t, near, cache, "normalize-timestamps")
	near.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	if r, err := bulk.Copy(t.Context(), src, dst, opt); !errors.Is(err, oci.ErrDenied) || r.Totals.Failed != 6 {
		t.Fatalf("got %v, want six denied", err)
	}
	near.fail(nil)
	if r := mustCopy(t, src, dst, opt); r.Transfers["layers_filtered"] != 0 || r.Transfers["layers_from_cache"] != 9 || r.Totals.Copied != 6 {
		t.Errorf("second run: %v, want nine layers from the cache", r.Transfers)
	}
}

// Filters with other options don't push each other out of the cache.
func TestLayerCacheKeepsChainsApart(t *testing.T) {
	src, near, cache := organisation(t, 4), newFar(t), filepath.Join(t.TempDir(), "cache.json")
	for round := range 2 {
		for _, ts := range []string{"1", "2"} {
			opt := filtering(t, near, cache, "normalize-timestamps:ts="+ts)
			opt.Name = func(item oci.Item) (oci.Ref, error) {
				ref, err := near.to(item)
				ref.Tag = "at-" + ts
				return ref, err
			}
			r := mustCopy(t, src, near.target(t), opt)
			if want := int64(7 * (1 - round)); r.Transfers["layers_filtered"] != want {
				t.Errorf("round %d, ts=%s: %v, want %d filtered", round, ts, r.Transfers, want)
			}
		}
	}
}

func TestLayerCacheThatIsNone(t *testing.T) {
	src, cache := organisation(t, 1), filepath.Join(t.TempDir(), "cache.json")
	if err := os.WriteFile(cache, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	opt := filtering(t, nil, cache, "normalize-timestamps")
	var lines []string
	opt.Warn = func(s string) { lines = append(lines, s) }
	mustCopy(t, src, layout(t), opt)
	if raw, err := os.ReadFile(cache); string(raw) != "precious" || err != nil || len(lines) != 1 || !strings.Contains(lines[0], cache) {
		t.Errorf("got %q, %v, warned %q; want one warning and the file as it was", raw, err, lines)
	}
}

// Uploads that break off are begun again with a new pass.
func TestFaultWhileFilteredLayersAreSent(t *testing.T) {
	src, near := large(t, 6), newFar(t)
	cut := map[string]bool{}
	near.fail(func(w http.ResponseWriter, r *http.Request) bool {
		repo, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/")
		near.mu.Lock()
		first := !cut[repo]
		if r.Method == http.MethodPatch {
			cut[repo] = true
		}
		near.mu.Unlock()
		if r.Method != http.MethodPatch || !first {
			return false
		}
		_, _ = io.CopyN(io.Discard, r.Body, 600_000) // behind what was held in memory
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	dst, opt := near.target(t), filtering(t, near, "", "normalize-timestamps")
	r := mustCopy(t, src, dst, opt)
	if r.Totals.Copied != 6 || r.Transfers["layers_filtered"] != 8 || len(cut) != 6 {
		t.Errorf("got %+v, %v, %d repositories with faults, want all copied", r.Totals, r.Transfers, len(cut))
	}
	for _, item := range src.items {
		written(t, dst, to(t, opt, item))
	}
}

func TestDryRunWithFilters(t *testing.T) {
	src, near, cache := organisation(t, 4), newFar(t), filepath.Join(t.TempDir(), "cache.json")
	dst, opt := near.target(t), filtering(t, near, cache, "normalize-timestamps")
	opt.DryRun = true
	r := mustCopy(t, src, dst, opt)
	if n := count(src.log(), "GET", "/blobs/"); r.Totals.Planned != 4 || r.Totals.Rewritten != 0 || n > 4 {
		t.Errorf("got %+v and %d blobs read, want a plan", r.Totals, n)
	}
	if _, err := os.Stat(cache); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run wrote the cache: %v", err)
	}
	opt.DryRun = false
	done := mustCopy(t, src, dst, opt)
	if done.Totals.BytesMoved != r.Totals.BytesMoved {
		t.Errorf("the copy moved %d bytes, the plan said %d", done.Totals.BytesMoved, r.Totals.BytesMoved)
	}
	opt.DryRun = true
	if r := mustCopy(t, src, dst, opt); r.Totals.Skipped != 4 {
		t.Errorf("the plan after it: %+v, want nothing to do", r.Totals)
	}
}
