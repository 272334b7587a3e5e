package bulk_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

const many = 40

func TestDistinctBlobsAreFetchedOnce(t *testing.T) {
	for _, kind := range []string{"registry", "registry that refuses mounts", "ocidir", "dir"} {
		t.Run(kind, func(t *testing.T) {
			src, near := organisation(t, many), newFar(t)
			dst, opt := near.target(t), bulk.Options{Name: near.to, Verify: pipeline.VerifyFull}
			switch kind {
			case "registry that refuses mounts":
				near.fail(func(_ http.ResponseWriter, r *http.Request) bool {
					if r.URL.Query().Has("mount") {
						r.URL.RawQuery = ""
					}
					return false
				})
			case "ocidir":
				dst, opt.Name = layout(t), nil
			case "dir":
				dst, opt.Name = openTarget(t, "dir://"+t.TempDir()+"/x", backend.Env{}), nil
			}
			r := mustCopy(t, src, dst, opt)
			if n := r.Totals; n.Images != many || n.Copied != many || n.Verified != many || n.Layers != 4*many || n.Failed != 0 {
				t.Errorf("totals %+v, want %d images copied and verified", n, many)
			}
			for d, n := range blobReads(src.log()) {
				if n != 1 {
					t.Errorf("%s was fetched %d times", d, n)
				}
			}
			if got := r.Transfers["blobs_fetched"]; got != int64(distinct(many)) {
				t.Errorf("%d blobs fetched, want the %d distinct ones", got, distinct(many))
			}
			shared := int64(len(bases) * (many - 1))
			asked := near.log()
			switch kind {
			case "registry":
				if got := r.Transfers["blobs_mounted"]; got != shared || r.Transfers["blobs_put"] != int64(distinct(many)) {
					t.Errorf("transfers %v, want %d mounts and each distinct blob put once", r.Transfers, shared)
				}
				// The same request asks whether a blob is there, takes it over, and begins its upload.
				posts, all := count(asked, "POST", "?mount"), int(shared)+distinct(many)
				if posts != all || count(asked, "POST", "") != all || count(asked, "HEAD", "/blobs/") != 0 {
					t.Errorf("%d mounts asked for, want %d, and no other POST and no HEAD of blobs", posts, all)
				}
			case "registry that refuses mounts":
				if r.Transfers["blobs_shared"]+r.Transfers["blobs_relayed"] != shared || r.Transfers["blobs_relayed"] > shared/4 {
					t.Errorf("transfers %v, want %d uploads fed by few reads at the destination", r.Transfers, shared)
				}
			default:
				if got := r.Transfers["blobs_put"]; got != int64(distinct(many)) {
					t.Errorf("%d blobs put, want %d", got, distinct(many))
				}
			}
			var base int64
			for _, b := range bases {
				base += b.Desc.Size
			}
			if want := base * (many - 1); r.Totals.BytesShared != want {
				t.Errorf("%d bytes shared, want %d", r.Totals.BytesShared, want)
			}

			again := mustCopy(t, src, dst, bulk.Options{Name: opt.Name})
			if again.Totals.Skipped != many || again.Transfers["blobs_fetched"] != 0 {
				t.Errorf("second run: %+v, want all skipped", again.Totals)
			}
			if asked := src.log(); len(asked) != 0 {
				t.Errorf("second run asked the source %q, want nothing: the listing has the digests", asked)
			}
			if asked := near.log(); opt.Name != nil && len(asked) != many {
				t.Errorf("second run asked the destination %d requests, want one an image", len(asked))
			}
		})
	}
}

// blobReads counts reads of each blob.
func blobReads(asked []string) map[string]int {
	reads := map[string]int{}
	for _, a := range asked {
		if _, d, ok := strings.Cut(a, "/blobs/"); ok && strings.HasPrefix(a, "GET ") {
			reads[d]++
		}
	}
	return reads
}

// The same repository takes a blob once and is asked for it once.
func TestTagsOfOneRepository(t *testing.T) {
	src, near := &images{far: newFar(t)}, newFar(t)
	for _, tag := range []string{"a", "b", "c"} {
		src.add(t, "org/app", tag, app(int(tag[0])))
	}
	r := mustCopy(t, src, near.target(t), bulk.Options{Name: near.to})
	asked := near.log()
	if got := count(asked, "POST", ""); got != distinct(3) || count(asked, "HEAD", "/blobs/") != 0 {
		t.Errorf("asked %d times for %d blobs, want once each", got, distinct(3))
	}
	if r.Totals.BytesMoved == 0 || r.Images[0].BlobsPresent+r.Images[1].BlobsPresent+r.Images[2].BlobsPresent != 2*len(bases) {
		t.Errorf("got %+v, want the bases present for two of three", r.Images)
	}
}

func TestOneFailureStopsNobody(t *testing.T) {
	src, dst := organisation(t, 8), layout(t)
	bad := app(3)
	own := bad.Blobs
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/org/app-03/blobs/") {
			return false
		}
		for d := range own {
			if isBlob(r, d) && d != bases[0].Desc.Digest && d != bases[1].Desc.Digest && d != bases[2].Desc.Digest {
				return notFound(w)
			}
		}
		return false
	})
	r, err := bulk.Copy(t.Context(), src, dst, bulk.Options{})
	if !errors.Is(err, oci.ErrNotFound) || r.Totals.Copied != 7 || r.Totals.Failed != 1 {
		t.Fatalf("got %v and %+v, want one failure of eight", err, r.Totals)
	}
	for _, part := range []string{"copy " + src.items[3].Ref.String(), "fetch blob", "404"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
	for i, image := range r.Images {
		want := oci.StatusCopied
		if i == 3 {
			want = oci.StatusFailed
		}
		if image.Reference != src.items[i].Ref.String() || image.Status != want {
			t.Errorf("image %d is %s, %s; want %s, %s", i, image.Reference, image.Status, src.items[i].Ref, want)
		}
	}
	src.fail(nil)
	if again := mustCopy(t, src, dst, bulk.Options{}); again.Totals.Copied != 1 || again.Totals.Skipped != 7 {
		t.Errorf("second run: %+v, want the one that failed", again.Totals)
	}
}

func TestFailFast(t *testing.T) {
	src := organisation(t, 8)
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/org/app-00/manifests/") && notFound(w)
	})
	r, err := bulk.Copy(t.Context(), src, layout(t), bulk.Options{FailFast: true, Images: 1})
	if err == nil || r.Totals.Failed != 1 || r.Totals.Copied != 0 {
		t.Errorf("got %v and %+v, want an end after the first", err, r.Totals)
	}
	if r.Listing.Done || !strings.Contains(r.Error, "not begun") {
		t.Errorf("error %q and %+v, want to be told that images are missing", r.Error, r.Listing)
	}
}

func TestCollisions(t *testing.T) {
	src, near := organisation(t, 3), newFar(t)
	src.items = append(src.items, src.items[0]) // the same image again is no other image
	same := func(item oci.Item) (oci.Ref, error) {
		to, err := near.to(item)
		if item.Ref.Repository == "org/app-02" {
			to.Repository = "org/app-01"
		}
		return to, err
	}
	r, err := bulk.Copy(t.Context(), src, near.target(t), bulk.Options{Name: same})
	if !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "org/app-02:v1") || !strings.Contains(err.Error(), "org/app-01:v1") {
		t.Fatalf("got %v, want a usage error that names both", err)
	}
	if len(r.Images) != 3 || r.Images[1].Status != oci.StatusCopied || r.Images[2].Status != oci.StatusFailed || r.Images[2].Step != "name" {
		t.Errorf("got %+v, want the second refused", r.Images)
	}
	if got := count(src.log(), "GET", "/org/app-02/"); got != 0 {
		t.Errorf("%d requests for the image that was refused", got)
	}
}

func TestManyImagesIntoAPlaceForOne(t *testing.T) {
	src := organisation(t, 5)
	dst := openTarget(t, "ocidir://"+t.TempDir()+"/x:v1", backend.Env{})
	r, err := bulk.Copy(t.Context(), src, dst, bulk.Options{})
	if !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), "dir://") {
		t.Fatalf("got %v, want a usage error that names other places", err)
	}
	if asked := src.log(); len(asked) != 0 || src.given != 2 || len(r.Images) != 0 {
		t.Errorf("asked %q and took %d of the listing, want no request and two images", asked, src.given)
	}
	src.items = src.items[:1]
	if r := mustCopy(t, src, dst, bulk.Options{}); r.Totals.Copied != 1 {
		t.Errorf("one image: %+v", r.Totals)
	}
}

func TestIncompleteListing(t *testing.T) {
	src := organisation(t, 3)
	src.err = errors.New("page 2 is not to be had")
	r, err := bulk.Copy(t.Context(), src, layout(t), bulk.Options{})
	if !errors.Is(err, oci.ErrIncomplete) || r.Totals.Copied != 3 || r.Listing.Done || !strings.Contains(r.Error, "page 2") {
		t.Errorf("got %v and %+v, want three copied and an incomplete listing", err, r)
	}
	src.err = oci.Refuse("the listing shrank")
	if _, err := bulk.Copy(t.Context(), src, layout(t), bulk.Options{}); !errors.Is(err, oci.ErrRefused) || errors.Is(err, oci.ErrIncomplete) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestNothingMatches(t *testing.T) {
	r := mustCopy(t, &images{far: newFar(t)}, layout(t), bulk.Options{})
	raw, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(raw), `"images":[]`) || !r.Listing.Done {
		t.Errorf("got %s, %v, want an empty list of images", raw, err)
	}
}

func TestDryRun(t *testing.T) {
	src, near := organisation(t, 10), newFar(t)
	r := mustCopy(t, src, near.target(t), bulk.Options{Name: near.to, DryRun: true})
	var want int64
	for i := range 10 {
		for d, b := range app(i).Blobs {
			if i == 0 || d != bases[0].Desc.Digest && d != bases[1].Desc.Digest && d != bases[2].Desc.Digest {
				want += int64(len(b))
			}
		}
	}
	if r.Totals.Planned != 10 || r.Totals.BytesMoved != want || !r.DryRun {
		t.Errorf("got %+v, want ten planned with %d distinct bytes", r.Totals, want)
	}
	asked := near.log()
	if reads := count(asked, "HEAD", "") + count(asked, "GET", ""); reads != len(asked) {
		t.Errorf("a dry run wrote: %q", asked)
	}
	if got := len(blobReads(src.log())); got != 0 {
		t.Errorf("a dry run read %d blobs", got)
	}
	done := mustCopy(t, src, near.target(t), bulk.Options{Name: near.to})
	if done.Totals.BytesMoved != want {
		t.Errorf("the copy moved %d bytes, the plan said %d", done.Totals.BytesMoved, want)
	}
	if r := mustCopy(t, src, near.target(t), bulk.Options{Name: near.to, DryRun: true}); r.Totals.Skipped != 10 || r.Totals.BytesMoved != 0 {
		t.Errorf("the plan after it: %+v, want nothing to do", r.Totals)
	}
}

func TestWarnsOnce(t *testing.T) {
	src := &images{far: newFar(t)}
	arm := oci.Platform{OS: "linux", Architecture: "arm64"}
	for _, repo := range []string{"org/a", "org/b", "org/c"} {
		src.add(t, repo, "v1", imagetest.Index(app(1), imagetest.New(arm, nil, bases...)))
	}
	var lines []string
	r := mustCopy(t, src, openTarget(t, "dir://"+t.TempDir()+"/x?unique_names=true", backend.Env{}), bulk.Options{Warn: func(s string) { lines = append(lines, s) }})
	if len(lines) != 1 || !strings.Contains(lines[0], "linux/arm64") || r.Totals.LeftOut != 3 {
		t.Errorf("warned %q of %d images, want one line for three", lines, r.Totals.LeftOut)
	}
}

func TestSlots(t *testing.T) {
	src := organisation(t, 12)
	var running, most atomic.Int64
	events := func(e bulk.Event) {
		switch e.Kind {
		case bulk.Started:
			most.Store(max(most.Load(), running.Add(1)))
		case bulk.Ended:
			running.Add(-1)
		}
	}
	mustCopy(t, src, layout(t), bulk.Options{Images: 5, Blobs: 2, Events: events})
	if src.most > 2 || most.Load() > 5 || most.Load() < 2 {
		t.Errorf("%d blobs and %d images at once, want at most 2 and 5", src.most, most.Load())
	}
}

func TestEvents(t *testing.T) {
	src := organisation(t, 12)
	var inside atomic.Int32
	var bytes int64
	var listed, started, ended, last int
	complete := false
	r := mustCopy(t, src, layout(t), bulk.Options{Events: func(e bulk.Event) {
		if inside.Add(1) != 1 {
			t.Error("two events at once")
		}
		defer inside.Add(-1)
		switch e.Kind {
		case bulk.Listed:
			listed++
		case bulk.Started:
			if started++; e.Number != started {
				t.Errorf("number %d started as number %d", e.Number, started)
			}
			if e.Item.Ref != src.items[e.Number-1].Ref {
				t.Errorf("number %d is %s", e.Number, e.Item.Ref)
			}
		case bulk.Moved:
			bytes += e.Bytes
		case bulk.Ended:
			ended++
			if e.Report == nil || e.Report.Status != oci.StatusCopied {
				t.Errorf("ended with %+v", e.Report)
			}
		}
		if e.Done < last || e.Done > e.Found {
			t.Errorf("%d of %d after %d", e.Done, e.Found, last)
		}
		last, complete = e.Done, e.Complete
	}})
	if listed != 13 || started != 12 || ended != 12 || last != 12 || !complete {
		t.Errorf("listed %d, started %d, ended %d, done %d, complete %v", listed, started, ended, last, complete)
	}
	if bytes != r.Totals.BytesMoved || bytes != r.Transfers["bytes_fetched"] {
		t.Errorf("events count %d bytes, the report %d", bytes, r.Totals.BytesMoved)
	}
}

func TestInterrupt(t *testing.T) {
	src, dst := organisation(t, 8), layout(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	src.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, bases[0].Desc.Digest) {
			cancel()
			<-r.Context().Done() // the client goes away
		}
		return false
	})
	r, err := bulk.Copy(ctx, src, dst, bulk.Options{})
	if !errors.Is(err, context.Canceled) || !r.Interrupted || r.Totals.Failed != 0 || r.Totals.Interrupted == 0 {
		t.Errorf("got %v and %+v, want an interrupted run without failures", err, r.Totals)
	}
	for _, i := range r.Images {
		if !i.Undone() {
			t.Errorf("%s is %s", i.Reference, i.Status)
		}
	}
	src.fail(nil)
	if again := mustCopy(t, src, dst, bulk.Options{}); again.Totals.Copied != 8 {
		t.Errorf("after it: %+v, want all", again.Totals)
	}
}
