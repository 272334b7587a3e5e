package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// An untagging is repository ns/app of a distribution registry that tags are taken
// from, with a count of all that it is asked.
type untagging struct {
	*registry.Repository
	far   far
	asked *atomic.Int64
	pub   *publish.Publisher
}

// startUntagging starts one. wrap, if not nil, stands in front of the registry.
func startUntagging(t *testing.T, wrap func(http.Handler) http.Handler) *untagging {
	t.Helper()
	u := &untagging{asked: new(atomic.Int64)}
	u.far = startRegistry(t, func(next http.Handler) http.Handler {
		if wrap != nil {
			next = wrap(next)
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u.asked.Add(1)
			next.ServeHTTP(w, r)
		})
	})
	e := env(t, transport.Options{})
	var err error
	if u.Repository, err = registry.OpenRepository(oci.Ref{Registry: u.far.host, Repository: "ns/app"}, e); err != nil {
		t.Fatal(err)
	}
	u.pub = &publish.Publisher{Source: e, Dest: e, Journal: filepath.Join(t.TempDir(), "journal")}
	return u
}

func (u *untagging) push(t *testing.T, img imagetest.Image, tags ...string) {
	t.Helper()
	for _, tag := range tags {
		if err := img.Push(t.Context(), u.far.URL, "ns/app", tag, ""); err != nil {
			t.Fatal(err)
		}
	}
}

func (u *untagging) refs(tags ...string) (refs []oci.Ref) {
	for _, tag := range tags {
		refs = append(refs, oci.Ref{Registry: u.far.host, Repository: "ns/app", Tag: tag})
	}
	return refs
}

func (u *untagging) means(t *testing.T, tag string, img imagetest.Image) {
	t.Helper()
	if d, err := u.Head(t.Context(), tag); err != nil || d.Digest != img.Desc.Digest {
		t.Errorf("%s means %s, %v, want %s", tag, d.Digest, err, img.Desc.Digest)
	}
}

// A53 to A55 of a registry that isn't Quay: an untag takes the tag and nothing else.
func TestUntagOfDistribution(t *testing.T) {
	u := startUntagging(t, nil)
	list := imagetest.Index(image(1, 1000, "amd64"), image(2, 1000, "arm64"))
	sig := "sha256-" + list.Children[1].Desc.Digest.Encoded() + ".sig"
	u.push(t, list, "v1", "v2")
	u.push(t, image(3, 1000, "amd64"), "other", sig)

	if _, err := u.pub.Untag(t.Context(), u.refs("v1"), publish.UntagOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t, u.Repository); !slices.Equal(got, []string{"other", sig, "v2"}) {
		t.Errorf("there are %q", got)
	}
	u.means(t, "v2", list)

	u.pub.Journal = filepath.Join(t.TempDir(), "journal")
	r, err := u.pub.Untag(t.Context(), u.refs("v2"), publish.UntagOptions{})
	if err == nil || len(r.Items[0].LostDigests) != 3 {
		t.Fatalf("got %v, lost %v", err, r.Items[0].LostDigests)
	}
	u.pub.Journal = filepath.Join(t.TempDir(), "journal")
	if _, err = u.pub.Untag(t.Context(), u.refs("v2"), publish.UntagOptions{RemoveLast: true}); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t, u.Repository); !slices.Equal(got, []string{"other"}) {
		t.Errorf("there are %q", got)
	}
	if _, err := u.pub.Undo(t.Context(), u.pub.Journal, publish.UndoOptions{}); err != nil {
		t.Fatal(err)
	}
	u.means(t, "v2", list)
	u.means(t, sig, image(3, 1000, "amd64"))

	u.pub.Yes, u.pub.Journal = true, ""
	if _, err := u.pub.Clear(t.Context(), u.refs(""), publish.ClearOptions{KeepTags: []string{"v*"}}); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t, u.Repository); !slices.Equal(got, []string{sig, "v2"}) {
		t.Errorf("there are %q", got)
	}
}

// Distribution can be a registry that deletes by digest only, as it was before
// version 3: that has to be allowed, and spares what another tag has.
func TestUntagByDigestOfDistribution(t *testing.T) {
	u := startUntagging(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "sha256:") {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	one, two := image(1, 1000, "amd64"), image(2, 1000, "amd64")
	u.push(t, one, "a", "b")
	u.push(t, two, "c")
	gone := publish.UntagOptions{RemoveLast: true}
	u.pub.Journal = ""
	if _, err := u.pub.Untag(t.Context(), u.refs("c"), gone); err == nil {
		t.Error("it wasn't allowed")
	}
	u.pub.AllowDigestDelete = true
	if _, err := u.pub.Untag(t.Context(), u.refs("a"), gone); err == nil {
		t.Error("another tag has that digest")
	}
	if got := tagsOf(t, u.Repository); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("there are %q", got)
	}
	if _, err := u.pub.Untag(t.Context(), u.refs("a", "b"), gone); err != nil {
		t.Error(err)
	}
	if got := tagsOf(t, u.Repository); !slices.Equal(got, []string{"c"}) {
		t.Errorf("there are %q", got)
	}
	u.means(t, "c", two)
}

// All requests are counted. The registry asks for no login.
func TestUntagOfDistributionCosts(t *testing.T) {
	const tags = 500
	u := startUntagging(t, nil)
	for i := range tags {
		u.push(t, image(uint64(i), 100, "amd64"), fmt.Sprintf("v%d", i))
	}
	u.asked.Store(0)
	if _, err := u.pub.Untag(t.Context(), u.refs("v7"), publish.UntagOptions{RemoveLast: true}); err != nil {
		t.Fatal(err)
	}
	if n := u.asked.Load(); n > 510 {
		t.Errorf("%d requests, at most 510 are due", n)
	} else {
		t.Logf("%d requests", n)
	}
}
