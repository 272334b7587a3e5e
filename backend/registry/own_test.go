package registry_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// blobRequests are the counts of s that concern blobs.
func blobRequests(s *quaytest.Server) map[string]int {
	all := s.Counts()
	maps.DeleteFunc(all, func(kind string, _ int) bool {
		return !strings.HasPrefix(kind, "v2.mount") && !strings.HasPrefix(kind, "v2.upload") && !strings.HasPrefix(kind, "v2.blob")
	})
	return all
}

func wantRequests(t *testing.T, got, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("asked %v, want %v", got, want)
	}
}

// quayEnv is what a target at run is opened with, as the robot.
func quayEnv(t *testing.T, run *quaytest.Run, robot string) backend.Env {
	t.Helper()
	login := transport.Fixed(run.Host, "mirror+bot", robot)
	return backend.Env{HTTP: client(t, transport.Options{Credentials: login}), PlainHTTP: true}
}

func TestMountFromTheOwnRepository(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	tgt := open(t, run.Host, quayEnv(t, run, robot))
	image := func(repo string) oci.Destination {
		dst, err := tgt.Image(t.Context(), oci.Ref{Registry: run.Host, Repository: repo, Tag: "v1"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dst.Close() })
		return dst
	}
	here, elsewhere, nowhere := random(1, small), random(2, small), random(3, small)
	app := image("mirror/app")
	for dst, c := range map[oci.Destination]*content{app: here, image("mirror/other"): elsewhere} {
		if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		c    *content
		from string
		want bool
		put  map[string]int // requests, if it is to be put then
	}{
		{"there", here, "mirror/app", true, nil},
		{"not there", nowhere, "mirror/app", false, map[string]int{"v2.mount": 1, "v2.upload.put": 1}},
		{"in another repository", elsewhere, "mirror/app", false, nil},
		{"from that other repository", elsewhere, "mirror/other", true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.Reset()
			got, err := app.(oci.Mounter).Mount(t.Context(), tt.c.desc(), tt.from)
			if err != nil || got != tt.want {
				t.Fatalf("got %v, %v, want %v", got, err, tt.want)
			}
			if tt.put == nil {
				wantRequests(t, blobRequests(s), map[string]int{"v2.mount": 1})
				return
			}
			if _, err := app.PutBlob(t.Context(), tt.c.blob()); err != nil {
				t.Fatal(err)
			}
			wantRequests(t, blobRequests(s), tt.put)
		})
	}
}

func TestOwnMountAtARegistryThatIgnoresMounts(t *testing.T) {
	for _, name := range []string{"there", "not there"} {
		f := newFar(t)
		c, dst := random(4, small), f.destination(t, "a", "1")
		if name == "there" {
			if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
				t.Fatal(err)
			}
		}
		f.log()
		f.fail(refusing)
		if got, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "a"); got || err != nil {
			t.Errorf("%s: got %v, %v, want an upload", name, got, err)
		}
		if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
			t.Fatal(err)
		}
		if asked := f.log(); len(asked) != 2 || count(asked, "POST", "") != 1 || count(asked, "PUT", "") != 1 {
			t.Errorf("%s: asked %q, want POST and PUT", name, asked)
		}
	}
}

// Such a registry is asked by HEAD, and no more by mounts.
func TestOwnMountAtARegistryThatKnowsNoMounts(t *testing.T) {
	for _, status := range []int{400, 405, 501} {
		f := newFar(t)
		dst := f.destination(t, "a", "1")
		there, later, missing := random(5, small), random(6, small), random(7, small)
		for _, c := range []*content{there, later} {
			if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
				t.Fatal(err)
			}
		}
		f.log()
		f.fail(func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Query().Has("mount") && answer(w, status, "UNSUPPORTED")
		})
		for c, want := range map[*content]bool{there: true, later: true, missing: false} {
			if got, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "a"); err != nil || got != want {
				t.Errorf("%d: got %v, %v, want %v", status, got, err, want)
			}
		}
		if asked := f.log(); count(asked, "POST", "") != 1 || count(asked, "HEAD", "/blobs/") != 3 || len(asked) != 4 {
			t.Errorf("%d: asked %q", status, asked)
		}
		if _, err := dst.PutBlob(t.Context(), missing.blob()); err != nil {
			t.Error(err)
		}
		f.has(t, "a", missing)
	}
}

// What such an answer leaves open the upload tells; no further question is put.
func TestOwnMountThatIsNotAllowed(t *testing.T) {
	for _, status := range []int{401, 403, 404} {
		f := newFar(t)
		dst := f.destination(t, "a", "1")
		f.fail(func(w http.ResponseWriter, r *http.Request) bool { return answer(w, status, "DENIED") })
		c := random(8, small)
		if got, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "a"); got || err != nil {
			t.Errorf("%d: got %v, %v", status, got, err)
		}
		if asked := f.log(); len(asked) != 1 {
			t.Errorf("%d: asked %q", status, asked)
		}
		if _, err := dst.PutBlob(t.Context(), c.blob()); err == nil {
			t.Errorf("%d: the upload says nothing", status)
		}
	}
}

func TestCloseCancelsManySessions(t *testing.T) {
	const many = 11
	f := newFar(t)
	f.fail(refusing)
	dst := f.destination(t, "a", "1")
	for i := range many {
		if _, err := dst.(oci.Mounter).Mount(t.Context(), random(uint64(10+i), 100).desc(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	if n := count(f.log(), "DELETE", "/uploads/"); n != many {
		t.Errorf("%d sessions were cancelled, want %d", n, many)
	}
}

// An image of three blobs costs nine requests, tokens apart.
func TestPushToQuayCosts(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprint("known as a Quay: ", known), func(t *testing.T) {
			s, run, robot := startQuay(t, quaytest.Options{})
			env := quayEnv(t, run, robot)
			if known {
				env.QuayHost = run.Host
			}
			tgt := open(t, run.Host, env)
			push := func(repo string, img imagetest.Image) {
				dst, err := tgt.Image(t.Context(), oci.Ref{Registry: run.Host, Repository: repo, Tag: "v1"})
				if err != nil {
					t.Fatal(err)
				}
				defer dst.Close()
				if _, err := dst.Head(t.Context(), ""); err == nil {
					t.Fatal("it is there already")
				}
				dst.(oci.Foreseer).WillWrite()
				m, err := oci.ParseManifest(img.Desc.MediaType, img.Raw)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range m.Blobs() {
					if there, err := dst.(oci.Mounter).Mount(t.Context(), b, repo); there || err != nil {
						t.Fatalf("mount: %v, %v", there, err)
					}
					c := &content{bytes: img.Blobs[b.Digest]}
					if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := dst.PutManifest(t.Context(), img.Raw, img.Desc.MediaType); err != nil {
					t.Fatal(err)
				}
				if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
					t.Fatal(err)
				}
				if err := dst.Verify(t.Context(), img.Desc, false); err != nil {
					t.Fatal(err)
				}
			}
			for i, repo := range []string{"mirror/first", "mirror/one", "mirror/two"} {
				s.Reset()
				push(repo, imagetest.New(imagetest.Linux, nil, imagetest.Random(uint64(10*i), 1000), imagetest.Random(uint64(10*i+1), 1000)))
				if i == 0 { // it meets the registry's challenge, and asks what new repositories are
					if n := s.Counts()["api.repository"]; n > 1 || known && n == 0 {
						t.Errorf("the visibility of one repository was asked for %d times", n)
					}
					continue
				}
				want := map[string]int{"v2.mount": 3, "v2.upload.put": 3, "v2.manifest.put": 1, "v2.manifest.head": 2}
				if known { // only GET tells whether the repository is there
					want["v2.manifest.head"], want["v2.manifest.get"] = 1, 1
				}
				got := s.Counts()
				delete(got, "v2.auth")
				wantRequests(t, got, want)
			}
		})
	}
}

func TestToOpenAsksNothing(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	env := quayEnv(t, run, robot)
	ref := oci.Ref{Registry: run.Host, Repository: "mirror/app", Tag: "v1"}
	if _, err := registry.Open(ref, env); err != nil {
		t.Fatal(err)
	}
	dst, err := open(t, run.Host, env).Image(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	dst.(oci.Foreseer).WillWrite()
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	if n := s.Counts(); len(n) != 0 {
		t.Errorf("asked %v", n)
	}
}
