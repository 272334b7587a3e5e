package quaytest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// TestFault lets one request fail in each way.
func TestFault(t *testing.T) {
	blob := "/v2/pub/app/blobs/" + string(base.Desc.Digest)
	fail := func(f quaytest.Fault, kind string) func(*quaytest.Options) {
		return func(o *quaytest.Options) {
			o.Fault = func(r *http.Request) quaytest.Fault {
				if quaytest.Kind(r) != kind {
					return quaytest.Fault{}
				}
				return f
			}
		}
	}
	start := func(t *testing.T, set func(*quaytest.Options)) *env {
		o := quaytest.Options{}
		set(&o)
		return newFakeEnv(t, o)
	}
	t.Run("reset", func(t *testing.T) {
		e := start(t, fail(quaytest.Fault{Reset: true}, "v2.blob.get"))
		resp, err := http.Get(e.base + blob)
		if err == nil {
			resp.Body.Close()
			t.Fatalf("got %s, want a reset connection", resp.Status)
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want %v", err, syscall.ECONNRESET)
		}
		want(t, "faults", e.fake.Counts()["fault"], 1)
		want(t, "requests", e.fake.Counts()["v2.blob.get"], 1)
	})
	t.Run("status", func(t *testing.T) {
		e := start(t, fail(quaytest.Fault{Status: 429, RetryAfter: "7"}, "api.tags"))
		r := e.get(t, api("pub/app")+"/tag/", "")
		want(t, "status", r.status, 429)
		want(t, "Retry-After", r.header.Get("Retry-After"), "7")
		want(t, "status of another", e.get(t, api("pub/app"), "").status, 200)
	})
	t.Run("cut", func(t *testing.T) {
		e := start(t, fail(quaytest.Fault{CutAfter: 10}, "storage.get"))
		resp, err := http.Get(e.base + blob)
		check(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
		}
		want(t, "bytes", string(got), string(base.Bytes[:10]))
		want(t, "transfers", len(e.fake.Transfers().Gets), 0)
	})
	t.Run("delay", func(t *testing.T) {
		e := start(t, fail(quaytest.Fault{Delay: 20 * time.Millisecond}, "v2.ping"))
		begin := time.Now()
		want(t, "status", e.get(t, "/v2/", "").status, 401)
		if took := time.Since(begin); took < 20*time.Millisecond {
			t.Errorf("it took %s, want 20 ms", took)
		}
	})
}

// TestFaults: the same requests break each time, about as many as asked for.
func TestFaults(t *testing.T) {
	const n = 5000
	choose := func(seed uint64, backwards bool) (chosen map[string]quaytest.Fault) {
		fault := quaytest.Faults(seed, 0.02)
		chosen = map[string]quaytest.Fault{}
		for i := range n {
			if backwards {
				i = n - 1 - i
			}
			r, err := http.NewRequest("GET", fmt.Sprintf("http://host/v2/org/r%d/blobs/uploads/%d?digest=x", i, time.Now().UnixNano()), nil)
			check(t, err)
			if f := fault(r); f != (quaytest.Fault{}) {
				chosen[r.URL.Path[:20]] = f
			}
		}
		return chosen
	}
	first := choose(1, false)
	want(t, "in another order", choose(1, true), first)
	resets := 0
	for _, f := range first {
		if f.Reset {
			resets++
		}
	}
	if len(first) < n/100 || len(first) > n*3/100 || resets < len(first)/4 || resets > len(first)*3/4 {
		t.Errorf("%d of %d requests break, %d with a reset; want about 2 %%, half with a reset", len(first), n, resets)
	}
	if other := choose(2, false); fmt.Sprint(other) == fmt.Sprint(first) {
		t.Error("another seed chooses the same")
	}
}
