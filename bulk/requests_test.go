package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// withoutRefusals gives what a Quay was asked, but for tokens, and what it answered by
// asking for one.
func withoutRefusals(s *quaytest.Server) map[string]int {
	counts := s.Counts()
	maps.DeleteFunc(counts, func(kind string, _ int) bool {
		return !strings.HasPrefix(kind, "v2.") || kind == "v2.auth" || kind == "v2.ping"
	})
	return counts
}

// More images than a window holds, from one Quay to another: what each costs.
func TestRequestsOfARun(t *testing.T) {
	const n = 50
	from, to := quaytest.New(quaytest.Options{StreamBlobs: true}), quaytest.New(quaytest.Options{StreamBlobs: true})
	fromRun, toRun := from.Start(), to.Start()
	defer fromRun.Close()
	defer toRun.Close()
	to.CreateUser("u", "p")
	to.CreateOrg("org", "u")
	src := quayOrganisation(t, from, fromRun.Host, n)
	dst := openTarget(t, "registry://"+toRun.Host, sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(toRun.Host, "u", "p")}))
	opt := bulk.Options{Name: bulk.Naming{Registry: toRun.Host}.Name}
	from.Reset()

	r := mustCopy(t, src, dst, opt)
	if r.Totals.Copied != n || r.Totals.Verified != n {
		t.Errorf("got %+v, want %d copied and verified", r.Totals, n)
	}
	blobs := n * (len(bases) + 2)
	want := map[string]int{"v2.manifest.get": n, "v2.blob.get": distinct(n)}
	if got := withoutRefusals(from); !maps.Equal(got, want) {
		t.Errorf("the source was asked %v, want %v", got, want)
	}
	want = map[string]int{"v2.manifest.head": 2 * n, "v2.mount": blobs, "v2.upload.put": distinct(n), "v2.manifest.put": n}
	if got := withoutRefusals(to); !maps.Equal(got, want) {
		t.Errorf("the destination was asked %v, want %v", got, want)
	}

	from.Reset()
	to.Reset()
	if again := mustCopy(t, src, dst, opt); again.Totals.Skipped != n {
		t.Errorf("second run: %+v, want all skipped", again.Totals)
	}
	want = map[string]int{"v2.manifest.head": n}
	if got := withoutRefusals(to); !maps.Equal(got, want) || len(from.Counts()) != 0 {
		t.Errorf("second run: the destination was asked %v, want %v; the source %v, want nothing", got, want, from.Counts())
	}
}

// From one repository of a registry to another its blobs are only mounted.
func TestCopyWithinARegistry(t *testing.T) {
	const n = 5
	s := quaytest.New(quaytest.Options{StreamBlobs: true})
	run := s.Start()
	defer run.Close()
	s.CreateUser("u", "p")
	s.CreateOrg("copies", "u")
	src := quayOrganisation(t, s, run.Host, n)
	dst := openTarget(t, "registry://"+run.Host, sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(run.Host, "u", "p")}))
	s.Reset()

	r := mustCopy(t, src, dst, bulk.Options{Name: bulk.Naming{Registry: run.Host, Prefix: "copies", StripNamespace: true}.Name})
	blobs := n * (len(bases) + 2)
	if r.Totals.Copied != n || r.Totals.BytesMoved != 0 || r.Transfers["blobs_mounted"] != int64(blobs) || r.Transfers["blobs_fetched"] != 0 {
		t.Errorf("got %+v, %v, want %d blobs mounted and none read", r.Totals, r.Transfers, blobs)
	}
	if got := withoutRefusals(s); got["v2.blob.get"] != 0 || got["v2.blob.head"] != 0 || got["v2.mount"] != blobs || got["v2.upload.put"] != 0 {
		t.Errorf("asked %v, want mounts only", got)
	}
}

// quayOrganisation is organisation in a Quay.
func quayOrganisation(t *testing.T, s *quaytest.Server, host string, n int) quayImages {
	t.Helper()
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	for i := range n {
		img, repo := app(i), fmt.Sprintf("org/app-%02d", i)
		if err := s.Push(t.Context(), repo, "v1", img); err != nil {
			t.Fatal(err)
		}
		src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: host, Repository: repo, Tag: "v1"}, Desc: oci.Descriptor{Digest: img.Desc.Digest}})
	}
	return src
}

// A watched target counts its destinations.
type watched struct {
	oci.Target
	opened, closed atomic.Int64
}

type watchedImage struct {
	oci.Destination
	oci.Mounter
	oci.Foreseer
	*watched
}

func (w *watched) Image(ctx context.Context, name oci.Ref) (oci.Destination, error) {
	d, err := w.Target.Image(ctx, name)
	if err != nil {
		return nil, err
	}
	w.opened.Add(1)
	return watchedImage{d, d.(oci.Mounter), d.(oci.Foreseer), w}, nil
}

func (i watchedImage) Close() error {
	i.closed.Add(1)
	return i.Destination.Close()
}

// An image that can't be looked up fails alone, and in its turn.
func TestImageThatCannotBeLookedUp(t *testing.T) {
	src, near := organisation(t, 8), newFar(t)
	src.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/org/app-03/manifests/") && notFound(w)
	})
	dst := &watched{Target: near.target(t)}
	var order []int
	r, err := bulk.Copy(t.Context(), src, dst, bulk.Options{Name: near.to, Events: func(e bulk.Event) {
		if e.Kind == bulk.Started {
			order = append(order, e.Number)
		}
	}})
	if !errors.Is(err, oci.ErrGone) || r.Totals.Copied != 7 || r.Images[3].Status != oci.StatusFailed || !slices.IsSorted(order) || len(order) != 8 {
		t.Errorf("got %v, %+v, started %v, want the fourth to fail", err, r.Totals, order)
	}
	if dst.opened.Load() != 8 || dst.closed.Load() != 8 {
		t.Errorf("%d opened, %d closed", dst.opened.Load(), dst.closed.Load())
	}
	if got := count(near.log(), "POST", "/org/app-03/"); got != 0 {
		t.Errorf("%d writes for the image that failed", got)
	}
}

// A run that is killed in its window leaves what is whole, and the next one goes on.
func TestInterruptInTheWindow(t *testing.T) {
	const n = 30
	src, near := organisation(t, n), newFar(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	own := string(ownLayer(5))
	src.fail(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, own) {
			cancel()
			<-r.Context().Done() // the client goes away
		}
		return false
	})
	dst := &watched{Target: near.target(t)}
	r, err := bulk.Copy(ctx, src, dst, bulk.Options{Name: near.to})
	if !errors.Is(err, context.Canceled) || !r.Interrupted || r.Totals.Failed != 0 || r.Totals.Copied == n {
		t.Errorf("got %v and %+v, want an interrupted run without failures", err, r.Totals)
	}
	if dst.opened.Load() != dst.closed.Load() {
		t.Errorf("%d opened, %d closed", dst.opened.Load(), dst.closed.Load())
	}
	src.fail(nil)
	again := mustCopy(t, src, near.target(t), bulk.Options{Name: near.to}).Totals
	// Some were there, but not verified, when the run ended.
	if again.Copied+again.Skipped != n || again.Skipped < r.Totals.Copied {
		t.Errorf("after %d: %+v, want the others", r.Totals.Copied, again)
	}
}

// ownLayer is the layer that only app(i) has.
func ownLayer(i int) oci.Digest { return imagetest.Random(uint64(1000+i), 2000).Desc.Digest }
