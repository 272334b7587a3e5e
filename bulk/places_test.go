package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/archive"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// gauge counts the places that a kind has open.
type gauge struct {
	mu        sync.Mutex
	now, most int
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now += n
	g.most = max(g.most, g.now)
}

// gauged is a place whose Finish fails if finish says so.
type gauged struct {
	oci.Target
	gauge  *gauge
	finish error
}

func (g gauged) SharedBlobs() bool { return true }

func (g gauged) Close() error {
	g.gauge.add(-1)
	return g.Target.Close()
}

func (g gauged) Finish(ctx context.Context) error {
	if g.finish != nil {
		return g.finish
	}
	return g.Target.Finish(ctx)
}

var errFinish = errors.New("the disk is gone")

// archives opens tar://FOLDER/TEMPLATE. The place whose path holds bad can't be
// finished.
func archives(t *testing.T, folder, template, bad string) (oci.Target, *gauge) {
	t.Helper()
	u, err := backend.ParseURI("tar://" + folder + "/" + template)
	if err != nil {
		t.Fatal(err)
	}
	g := &gauge{}
	kind := archive.Kind
	kind.Target = func(ctx context.Context, u backend.URI, env backend.Env) (oci.Target, error) {
		inner, err := archive.Kind.Target(ctx, u, env)
		g.add(1)
		one := gauged{Target: inner, gauge: g}
		if bad != "" && strings.Contains(u.Rest, bad) {
			one.finish = errFinish
		}
		return one, err
	}
	target, err := kind.Spread(t.Context(), u, backend.Env{}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil || g.now != 0 {
			t.Errorf("close: %v, and %d places are open", err, g.now)
		}
	})
	return target, g
}

// exist gives the files in folder.
func exist(t *testing.T, folder string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, strings.TrimPrefix(path, folder+"/"))
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// Each archive is there as soon as its image is done, and few are open at once.
func TestAPlaceForEachImage(t *testing.T) {
	src, out := organisation(t, 12), t.TempDir()+"/out"
	dst, g := archives(t, out, "{namespace}/{name}-{tag}-{arch}.tar", "")
	r := mustCopy(t, src, dst, bulk.Options{Images: 2, Events: func(e bulk.Event) {
		if e.Kind != bulk.Ended {
			return
		}
		path := strings.TrimPrefix(e.Report.Destination, "tar://")
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s has ended: %v", e.Item.Ref, err)
		}
	}})
	if r.Totals.Copied != 12 || g.most > 2 {
		t.Errorf("got %+v, and %d places were open at once", r.Totals, g.most)
	}
	if got, want := r.Images[3].Destination, "tar://"+out+"/app-03-v1-amd64.tar"; !strings.HasSuffix(got, "/org/app-03-v1-amd64.tar") {
		t.Errorf("got %s, want %s", got, want)
	}
	if again := mustCopy(t, src, dst, bulk.Options{}); again.Totals.Skipped != 12 || len(src.log()) == 0 {
		t.Errorf("second run: %+v, want all skipped", again.Totals)
	}
}

// Images of one place come together, whatever the order of the listing, and
// share its blobs; the report has the same order.
func TestPlacesOfSeveralImages(t *testing.T) {
	src := &images{far: newFar(t)}
	for i := range 9 {
		src.add(t, fmt.Sprintf("org/app-%d", i), fmt.Sprintf("v%d", i%3), app(i))
	}
	out := t.TempDir()
	dst, g := archives(t, out, "{tag}.tar", "")
	r := mustCopy(t, src, dst, bulk.Options{Images: 1})
	var order []string
	for _, i := range r.Images {
		order = append(order, i.Reference[len(i.Reference)-4:])
	}
	if got, want := strings.Join(order, " "), "0:v0 3:v0 6:v0 1:v1 4:v1 7:v1 2:v2 5:v2 8:v2"; got != want || g.most != 1 {
		t.Errorf("got %s with %d places open at once, want %s", got, g.most, want)
	}
	if got, want := r.Transfers["blobs_put"], int64(3*(len(bases)+3)+9); got != want {
		t.Errorf("%d blobs put, want %d: those that are shared once for each place", got, want)
	}
}

// What fails in a place fails alone; a place that can't be finished fails its
// images, and no others.
func TestPlacesThatFail(t *testing.T) {
	src := &images{far: newFar(t)}
	for i := range 6 {
		src.add(t, fmt.Sprintf("org/app-%d", i), fmt.Sprintf("v%d", i%2), app(i))
	}
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/org/app-2/manifests/") && notFound(w)
	})
	out := t.TempDir()
	dst, _ := archives(t, out, "{tag}.tar", "v1")
	r, err := bulk.Copy(t.Context(), src, dst, bulk.Options{Verify: pipeline.VerifyDefault})
	if !errors.Is(err, errFinish) || !errors.Is(err, oci.ErrGone) || r.Totals.Copied != 2 || r.Totals.Failed != 4 || r.Totals.Verified != 2 {
		t.Errorf("got %v and %+v, want two of six", err, r.Totals)
	}
	if n := strings.Count(err.Error(), errFinish.Error()); n != 3 {
		t.Errorf("the failure is told %d times, want once for each image: %v", n, err)
	}
	for _, i := range r.Images {
		if strings.HasSuffix(i.Reference, ":v1") && (i.Step != "finish" || !strings.Contains(i.Error, "v1.tar: "+errFinish.Error())) {
			t.Errorf("%s failed at %s: %s", i.Reference, i.Step, i.Error)
		}
	}
	if got := exist(t, out); got != "v0.tar" {
		t.Errorf("there are %s, want v0.tar", got)
	}
}

// A run that is interrupted leaves the archives that were whole, and says of
// the images in the others that they aren't there.
func TestPlacesOfAnInterruptedRun(t *testing.T) {
	for _, template := range []string{"{tag}.tar", "all.tar"} {
		t.Run(strings.NewReplacer("{", "", "}", "").Replace(template), func(t *testing.T) {
			src := &images{far: newFar(t)}
			for i := range 6 {
				src.add(t, fmt.Sprintf("org/app-%d", i), fmt.Sprintf("v%d", i/2), app(i))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			src.fail(func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/org/app-3/manifests/") {
					cancel()
					<-r.Context().Done()
				}
				return false
			})
			out := t.TempDir()
			dst, _ := archives(t, out, template, "")
			want, files := 2, "v0.tar"
			if template == "all.tar" {
				var err error
				u, _ := backend.ParseURI("tar://" + out + "/" + template)
				if dst, err = archive.Kind.Target(t.Context(), u, backend.Env{}); err != nil {
					t.Fatal(err)
				}
				want, files = 0, ""
			}
			r, err := bulk.Copy(ctx, src, dst, bulk.Options{Images: 1})
			if !errors.Is(err, context.Canceled) || r.Totals.Copied != want {
				t.Errorf("got %v and %+v, want %d images", err, r.Totals, want)
			}
			if err := dst.Close(); err != nil {
				t.Error(err)
			}
			if got := exist(t, out); got != files {
				t.Errorf("there are %q, want %q", got, files)
			}
		})
	}
}

// Names are checked before the first image, as far as the listing goes.
func TestNamesAreCheckedAhead(t *testing.T) {
	src := organisation(t, 30)
	dst, _ := archives(t, t.TempDir(), "{tag}-{digest}.tar", "")
	src.err = errors.New("the API is down")
	r, err := bulk.Copy(t.Context(), src, dst, bulk.Options{Name: func(i oci.Item) (oci.Ref, error) {
		i.Ref.Digest = i.Desc.Digest
		return i.Ref, nil
	}})
	if !errors.Is(err, oci.ErrIncomplete) || r.Totals.Copied != 30 || r.Listing.Done {
		t.Errorf("got %v and %+v, want what was listed", err, r.Totals)
	}

	near := newFar(t)
	src.log()
	r, err = bulk.Copy(t.Context(), src, near.target(t), bulk.Options{Ahead: true, Name: bulk.Naming{Registry: near.host, Template: "one:{tag}"}.Name})
	c, ok := errors.AsType[*bulk.CollisionError](err)
	if !ok || !errors.Is(err, oci.ErrUsage) || len(c.Lines) != 10 || c.More != 19 || len(r.Images) != 0 {
		t.Fatalf("got %v and %d images, want 29 collisions", err, len(r.Images))
	}
	if want := src.items[0].Ref.String() + " and " + src.items[1].Ref.String() + " would both be " + near.host + "/one:v1"; c.Lines[0] != want {
		t.Errorf("got %q, want %q", c.Lines[0], want)
	}
	if asked := append(src.log(), near.log()...); len(asked) != 0 {
		t.Errorf("requests were made: %q", asked)
	}
}

// An image that the listing gives twice is one.
func TestTwiceInAPlace(t *testing.T) {
	src := organisation(t, 2)
	src.items = append(src.items, src.items[0], src.items[1])
	dst, _ := archives(t, t.TempDir(), "{name}.tar", "")
	if r := mustCopy(t, src, dst, bulk.Options{}); r.Totals.Images != 2 || r.Totals.Copied != 2 {
		t.Errorf("got %+v, want two images", r.Totals)
	}
}
