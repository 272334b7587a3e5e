package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

func (p *past) history(t *testing.T, pub *publish.Publisher, tag string) (names []string, err error) {
	t.Helper()
	for e, err := range pub.History(t.Context(), p.ref(tag)) {
		if err != nil {
			return names, err
		}
		names = append(names, fmt.Sprintf("%s %s", p.name(e.Digest), e.Start.Sub(p.start)))
	}
	return names, nil
}

func TestHistory(t *testing.T) {
	p := newPast(t)
	want := []string{"third 3h0m0s", "second 1h0m0s", "first 0s"}
	for _, token := range []bool{true, false} {
		got, err := p.history(t, p.publisher(t, token), "v1")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("token %v: got %v, %v, want %v", token, got, err, want)
		}
	}
	if got, err := p.history(t, p.publisher(t, true), "never-there"); err != nil || len(got) != 0 {
		t.Errorf("a tag that never was: %v, %v", got, err)
	}
	if n := p.writes.Load(); n != 0 {
		t.Errorf("%d writes", n)
	}
	for _, ref := range []oci.Ref{p.ref(""), {Registry: p.host, Repository: "org/app", Tag: "v1", Digest: p.first.Desc.Digest}} {
		for _, err := range p.publisher(t, true).History(t.Context(), ref) {
			if !errors.Is(err, oci.ErrUsage) || strings.Count(err.Error(), ref.String()) != 1 {
				t.Errorf("%s: %v, want a usage error that says it once", ref, err)
			}
		}
	}
}

func TestHistoryThatIsNotToBeSeen(t *testing.T) {
	p := newPast(t)
	if err := p.CreateRepository("org", "secret", false); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"org/secret", "org/never-there"} {
		for _, err := range p.publisher(t, false).History(t.Context(), oci.Ref{Registry: p.host, Repository: repo, Tag: "v1"}) {
			if !errors.Is(err, oci.ErrDenied) || !strings.Contains(fmt.Sprint(err), "API token") {
				t.Errorf("%s: %v", repo, err)
			}
		}
	}
}

// The token of one Quay isn't shown to another registry.
func TestHistoryOfWhatIsNoQuay(t *testing.T) {
	var shown atomic.Int32
	mem := ociserver.New(ocimem.New(), nil)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			shown.Add(1)
		}
		mem.ServeHTTP(w, r)
	}))
	t.Cleanup(other.Close)
	p := newPast(t)
	n := 0
	for _, err := range p.publisher(t, true).History(t.Context(), oci.Ref{Registry: strings.TrimPrefix(other.URL, "http://"), Repository: "org/app", Tag: "v1"}) {
		if n++; !errors.Is(err, oci.ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 || shown.Load() != 0 {
		t.Errorf("%d errors, %d logins shown", n, shown.Load())
	}
}
