package publish_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// Whatever breaks at whichever request: what a run has deleted it tells, a refusal has
// deleted nothing, what stays is what it was, and the journal brings all of it back.
func TestDeletingBreaksAtEachRequest(t *testing.T) {
	ways := map[string]struct {
		// at says what becomes of a request, which is the one that breaks or a later one.
		at func(w http.ResponseWriter, r *http.Request, later bool, p *place, cancel func()) bool
	}{
		"503 from then on": {func(w http.ResponseWriter, _ *http.Request, _ bool, _ *place, _ func()) bool {
			return answer(w, http.StatusServiceUnavailable, "UNKNOWN")
		}},
		"one reset": {func(_ http.ResponseWriter, _ *http.Request, later bool, _ *place, _ func()) bool {
			if !later {
				panic(http.ErrAbortHandler)
			}
			return false
		}},
		"one answer that is lost": {func(_ http.ResponseWriter, r *http.Request, later bool, p *place, _ func()) bool {
			if !later {
				p.next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			return false
		}},
		"one 404 of something in between": {func(w http.ResponseWriter, _ *http.Request, later bool, _ *place, _ func()) bool {
			if !later {
				http.Error(w, "<html>", http.StatusNotFound)
			}
			return !later
		}},
		"an interrupt": {func(_ http.ResponseWriter, _ *http.Request, later bool, _ *place, cancel func()) bool {
			if !later {
				cancel()
			}
			return false
		}},
	}
	verbs := map[string]func(ctx context.Context, pub *publish.Publisher, p *place, repo string) (*publish.Report, error){
		"untag": func(ctx context.Context, pub *publish.Publisher, p *place, repo string) (*publish.Report, error) {
			return pub.Untag(ctx, p.refs(repo+":a", repo+":b", repo+":child"), publish.UntagOptions{RemoveLast: true})
		},
		"clear": func(ctx context.Context, pub *publish.Publisher, p *place, repo string) (*publish.Report, error) {
			return pub.Clear(ctx, p.refs(repo), publish.ClearOptions{KeepTags: []string{"list"}})
		},
	}
	c := newCast()
	img, list := c.image("amd64=sweep"), c.list("amd64=1", "arm64=2")
	sig, sigImg := signature(img)
	sigSig, sigSigImg := signature(sigImg)
	childSig, childSigImg := signature(list.Children[0])
	all := map[string]imagetest.Image{
		"a": img, "b": img, "list": list, "child": list.Children[0],
		sig: sigImg, sigSig: sigSigImg, childSig: childSigImg,
	}
	stay := []string{"list", childSig}

	for kind, open := range places {
		for verb, do := range verbs {
			for way, fault := range ways {
				few := way == "503 from then on" || way == "one answer that is lost"
				if kind != "quay, by its API" && (verb == "clear" || !few) {
					continue // as there
				}
				t.Run(strings.Join([]string{kind, verb, way}, ", "), func(t *testing.T) {
					t.Parallel()
					p, repo := open(t), "name/repo"
					for tag, img := range all {
						p.push(repo+":"+tag, img)
					}
					for k := int64(1); ; k++ { // each time all is brought back
						ctx, cancel := context.WithCancel(t.Context())
						var n atomic.Int64
						p.on(func(w http.ResponseWriter, r *http.Request) bool {
							if strings.HasPrefix(r.URL.Path, "/v2/auth") || r.URL.Path == "/v2/" {
								return false
							}
							i := n.Add(1)
							return i >= k && fault.at(w, r, i > k, p, cancel)
						})
						pub := p.publisher()
						pub.Yes, pub.Journal = true, filepath.Join(t.TempDir(), "journal")
						report, err := do(ctx, pub, p, repo)
						cancel()
						p.on(nil)
						name := fmt.Sprintf("request %d: %v", k, err)
						told := map[string]publish.Status{}
						for _, item := range report.Items {
							for _, c := range item.Changes {
								told[strings.TrimPrefix(c.Reference, p.host+"/"+repo+":")] = c.Status
							}
						}
						for tag := range all {
							there := p.tags(repo, tag) != ""
							switch s := told[tag]; {
							case there && s == publish.Deleted && way != "one 404 of something in between":
								t.Errorf("%s: %s is there, and told to be deleted", name, tag)
							case there:
							case s != publish.Deleted && s != publish.Failed && !(slices.Contains(stay, tag) && err != nil):
								t.Errorf("%s: %s is gone, and told to be %q", name, tag, s)
							case errors.Is(err, oci.ErrRefused):
								t.Errorf("%s: a refusal, and %s is gone", name, tag)
							}
						}
						if _, err := pub.Undo(t.Context(), pub.Journal, publish.UndoOptions{}); err != nil {
							t.Errorf("%s: %v", name, err)
						}
						for tag, img := range all {
							p.means(repo+":"+tag, img)
						}
						if t.Failed() {
							t.Fatal(name)
						}
						if n.Load() < k { // it was done before anything broke
							if err != nil {
								t.Error(name)
							}
							return
						}
					}
				})
			}
		}
	}
}
