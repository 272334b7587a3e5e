package bulk_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

// quayImages are images read through a transport, as the program reads them.
type quayImages struct {
	*images
	env backend.Env
}

func (q quayImages) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	return registry.Open(item.Ref, q.env)
}

// From one Quay to another, with 2 % of all requests reset or answered 503: each
// distinct blob leaves the source once, and reaches each repository once.
func TestFaultsCostNoBlobTwice(t *testing.T) {
	from, to := quaytest.New(quaytest.Options{Fault: quaytest.Faults(7, 0.02)}), quaytest.New(quaytest.Options{Fault: quaytest.Faults(9, 0.02)})
	fromRun, toRun := from.Start(), to.Start()
	defer fromRun.Close()
	defer toRun.Close()
	to.CreateUser("u", "p")
	to.CreateOrg("org", "u")
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	for i := range many {
		img, repo := app(i), fmt.Sprintf("org/app-%02d", i)
		if err := from.Push(t.Context(), repo, "v1", img); err != nil {
			t.Fatal(err)
		}
		src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: fromRun.Host, Repository: repo, Tag: "v1"}, Desc: oci.Descriptor{Digest: img.Desc.Digest}})
	}
	dst := openTarget(t, "registry://"+toRun.Host, sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(toRun.Host, "u", "p")}))
	opt := bulk.Options{Name: bulk.Naming{Registry: toRun.Host}.Name, Verify: pipeline.VerifyDefault}

	r := mustCopy(t, src, dst, opt)
	if r.Totals.Copied != many || r.Totals.Verified != many {
		t.Errorf("got %+v, want %d copied and verified", r.Totals, many)
	}
	if n := from.Counts()["fault"] + to.Counts()["fault"]; n < 5 {
		t.Errorf("only %d faults; this shows little", n)
	}
	reads := map[oci.Digest]int{}
	for blob, n := range from.Transfers().Gets {
		reads[blob.Digest] += n
	}
	if len(reads) != distinct(many) {
		t.Errorf("%d blobs were fetched, want %d", len(reads), distinct(many))
	}
	for d, n := range reads {
		if n != 1 {
			t.Errorf("%s was fetched %d times", d, n)
		}
	}
	done := to.Transfers()
	for i := range many {
		for d := range app(i).Blobs {
			blob := quaytest.Blob{Repository: fmt.Sprintf("org/app-%02d", i), Digest: d}
			if n := done.Puts[blob] + done.Mounts[blob]; n != 1 {
				t.Errorf("%v was put or mounted %d times", blob, n)
			}
		}
	}
	if len(done.Puts) != distinct(many) {
		t.Errorf("%d blobs were uploaded, want the %d distinct ones", len(done.Puts), distinct(many))
	}

	from.Reset()
	if again := mustCopy(t, src, dst, opt); again.Totals.Skipped != many || len(from.Counts()) != 0 {
		t.Errorf("second run: %+v, and the source was asked %v", again.Totals, from.Counts())
	}
}

func sideEnv(t *testing.T, opt transport.Options) backend.Env {
	t.Helper()
	tr, err := transport.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdle)
	return backend.Env{HTTP: tr.Client(), PlainHTTP: true}
}
