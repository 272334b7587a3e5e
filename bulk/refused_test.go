package bulk_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// A crossing is an organisation on its way from one Quay into another, which
// refuses mounts.
type crossing struct {
	from, to *quaytest.Server
	src      quayImages
	dst      oci.Target
	opt      bulk.Options
}

func newCrossing(t *testing.T, n int, from, to func(*http.Request) quaytest.Fault) *crossing {
	t.Helper()
	c := &crossing{
		from: quaytest.New(quaytest.Options{Fault: from, StreamBlobs: true}),
		to:   quaytest.New(quaytest.Options{Fault: to, StreamBlobs: true, NoMounts: true}),
		src:  quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})},
	}
	fromRun, toRun := c.from.Start(), c.to.Start()
	t.Cleanup(fromRun.Close)
	t.Cleanup(toRun.Close)
	c.to.CreateUser("u", "p")
	c.to.CreateOrg("org", "u")
	for i := range n {
		repo := fmt.Sprintf("org/app-%02d", i)
		if err := c.from.Push(t.Context(), repo, "v1", app(i)); err != nil {
			t.Fatal(err)
		}
		c.src.items = append(c.src.items, oci.Item{Ref: oci.Ref{Registry: fromRun.Host, Repository: repo, Tag: "v1"}, Desc: oci.Descriptor{Digest: app(i).Desc.Digest}})
	}
	c.dst = openTarget(t, "registry://"+toRun.Host, sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(toRun.Host, "u", "p")}))
	c.opt = bulk.Options{Name: bulk.Naming{Registry: toRun.Host}.Name, Verify: pipeline.VerifyFull}
	return c
}

// wantOnce says that each distinct blob left the source once, and came into each
// repository once.
func (c *crossing) wantOnce(t *testing.T, n int) {
	t.Helper()
	reads := map[oci.Digest]int{}
	for blob, times := range c.from.Transfers().Gets {
		reads[blob.Digest] += times
	}
	if len(reads) != distinct(n) {
		t.Errorf("%d blobs were fetched, want %d", len(reads), distinct(n))
	}
	for d, times := range reads {
		if times != 1 {
			t.Errorf("%s was fetched %d times", d, times)
		}
	}
	puts := c.to.Transfers().Puts
	for i := range n {
		for d := range app(i).Blobs {
			if times := puts[quaytest.Blob{Repository: fmt.Sprintf("org/app-%02d", i), Digest: d}]; times != 1 {
				t.Errorf("image %d: %s was put %d times", i, d, times)
			}
		}
	}
}

// Where mounts are refused one read feeds many uploads: at the source, and for
// what comes later at the destination.
func TestRefusedMounts(t *testing.T) {
	c := newCrossing(t, many, nil, nil)
	c.opt.Verify = pipeline.VerifyDefault // full reads blobs
	r := mustCopy(t, c.src, c.dst, c.opt)
	if r.Totals.Copied != many || r.Totals.Verified != many {
		t.Errorf("got %+v, want %d copied and verified", r.Totals, many)
	}
	c.wantOnce(t, many)
	near := 0
	for _, times := range c.to.Transfers().Gets {
		near += times
	}
	uploads := int64(len(bases) * (many - 1))
	if most := uploads / 4; int64(near) > most || r.Transfers["blobs_relayed"] != int64(near) {
		t.Errorf("%d blobs were read at the destination, %v; want at most %d", near, r.Transfers, most)
	}
	if got := r.Transfers["blobs_shared"] + int64(near); got != uploads {
		t.Errorf("%d uploads were fed by others and %d read there, want %d in all", r.Transfers["blobs_shared"], near, uploads)
	}
	var base int64
	for _, b := range bases {
		base += b.Desc.Size
	}
	if want := base * (many - 1); r.Totals.BytesShared != want {
		t.Errorf("%d bytes shared, want %d", r.Totals.BytesShared, want)
	}
}

// Connections that break, bodies that are cut, a refusal for a while: nothing is
// fetched or stored twice for it.
func TestRefusedMountsUnderFaults(t *testing.T) {
	var cut, busy atomic.Int64
	fromFaults, toFaults := quaytest.Faults(3, 0.02), quaytest.Faults(5, 0.02)
	from := func(r *http.Request) quaytest.Fault {
		if quaytest.Kind(r) == "v2.blob.get" && cut.Add(1)%7 == 0 {
			return quaytest.Fault{CutAfter: 1500}
		}
		return fromFaults(r)
	}
	to := func(r *http.Request) quaytest.Fault {
		if quaytest.Kind(r) == "v2.upload.put" && busy.Add(1) == 180 { // late: requests go slower after it
			return quaytest.Fault{Status: http.StatusTooManyRequests}
		}
		return toFaults(r)
	}
	c := newCrossing(t, many, from, to)
	r := mustCopy(t, c.src, c.dst, c.opt)
	if r.Totals.Copied != many || r.Totals.Verified != many {
		t.Errorf("got %+v, want %d copied and verified", r.Totals, many)
	}
	if n := c.from.Counts()["fault"] + c.to.Counts()["fault"]; n < 10 {
		t.Errorf("only %d faults; this shows little", n)
	}
	c.wantOnce(t, many)
}

// A repository that takes nothing fails alone, though others' reads feed it.
func TestRefusedMountsAndARefusedRepository(t *testing.T) {
	c := newCrossing(t, 12, nil, func(r *http.Request) quaytest.Fault {
		if strings.HasPrefix(r.URL.Path, "/v2/org/app-07/blobs/uploads/") {
			return quaytest.Fault{Status: http.StatusForbidden}
		}
		return quaytest.Fault{}
	})
	r, err := bulk.Copy(t.Context(), c.src, c.dst, c.opt)
	if !errors.Is(err, oci.ErrDenied) || r.Totals.Failed != 1 || r.Totals.Copied != 11 || r.Images[7].Status != oci.StatusFailed {
		t.Errorf("got %v and %+v, want one failure of twelve", err, r.Totals)
	}
}

func TestInterruptWhereMountsAreRefused(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var puts atomic.Int64
	c := newCrossing(t, many, nil, func(r *http.Request) quaytest.Fault {
		if quaytest.Kind(r) == "v2.upload.put" && puts.Add(1) == 60 {
			cancel()
		}
		return quaytest.Fault{}
	})
	r, err := bulk.Copy(ctx, c.src, c.dst, c.opt)
	if !errors.Is(err, context.Canceled) || !r.Interrupted || r.Totals.Failed != 0 {
		t.Errorf("got %v and %+v, want an interrupted run without failures", err, r.Totals)
	}
	if again := mustCopy(t, c.src, c.dst, c.opt); again.Totals.Copied+again.Totals.Skipped != many {
		t.Errorf("after it: %+v, want all", again.Totals)
	}
}
