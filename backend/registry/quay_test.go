package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// startQuay starts a Quay with the organisation mirror, which alice administers
// and the robot mirror+bot may create repositories in.
func startQuay(t *testing.T, o quaytest.Options) (s *quaytest.Server, run *quaytest.Run, robot string) {
	t.Helper()
	s = quaytest.New(o)
	s.CreateUser("alice", "secret")
	s.CreateOrg("mirror", "alice")
	robot = s.AddRobot("mirror", "bot")
	if err := s.AddTeam("mirror", "pushers", "creator", "mirror+bot"); err != nil {
		t.Fatal(err)
	}
	run = s.Start()
	t.Cleanup(run.Close)
	return s, run, robot
}

// copyImage copies img's name from one registry to another, as simply as can be.
func copyImage(ctx context.Context, src oci.Source, dst oci.Destination, ref string, root bool) (oci.Descriptor, error) {
	desc, raw, err := src.Resolve(ctx, ref)
	if err != nil {
		return desc, err
	}
	m, err := oci.ParseManifest(desc.MediaType, raw)
	if err != nil {
		return desc, err
	}
	for _, child := range m.Manifests {
		if _, err := copyImage(ctx, src, dst, string(child.Digest), false); err != nil {
			return desc, err
		}
	}
	for _, b := range m.Blobs() {
		if there, err := dst.Has(ctx, b); there || err != nil {
			if err != nil {
				return desc, err
			}
			continue
		}
		open := func(ctx context.Context) (rc io.ReadCloser, err error) { return src.Fetch(ctx, b) }
		if _, err := dst.PutBlob(ctx, oci.Blob{Desc: b, Open: open}); err != nil {
			return desc, err
		}
	}
	if _, err := dst.PutManifest(ctx, raw, desc.MediaType); err != nil || !root {
		return desc, err
	}
	if err := dst.Commit(ctx, desc, desc); err != nil {
		return desc, err
	}
	return desc, dst.Verify(ctx, desc, true)
}

func multiArch(seed uint64, size int) imagetest.Image {
	return imagetest.Index(
		imagetest.New(imagetest.Linux, nil, imagetest.Random(seed, size), imagetest.Random(seed+1, 1000)),
		imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, imagetest.Random(seed+2, 1000)),
	)
}

func open(t *testing.T, host string, env backend.Env) oci.Target {
	t.Helper()
	u, err := backend.ParseURI("registry://" + host)
	if err != nil {
		t.Fatal(err)
	}
	tgt, err := registry.Kind.Target(t.Context(), u, env)
	if err != nil {
		t.Fatal(err)
	}
	return tgt
}

func TestFromQuayToQuay(t *testing.T) {
	const images, size = 4, 1<<20 + 1000 // a little over what is sent from memory
	tests := []struct {
		name     string
		from, to quaytest.Options
	}{
		{"blobs by redirect", quaytest.Options{}, quaytest.Options{}},
		{"blobs streamed", quaytest.Options{StreamBlobs: true}, quaytest.Options{StreamBlobs: true}},
		{"blobs through the proxy of the storage", quaytest.Options{StorageProxy: true}, quaytest.Options{}},
		{"under faults", quaytest.Options{Fault: quaytest.Faults(1, 0.04)}, quaytest.Options{Fault: quaytest.Faults(2, 0.04)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			far := quaytest.New(tt.from)
			for i := range images {
				if err := far.Push(t.Context(), fmt.Sprintf("kolla/app%d", i), "v1", multiArch(uint64(10*i), size)); err != nil {
					t.Fatal(err)
				}
			}
			from := far.Start()
			defer from.Close()
			near, to, robot := startQuay(t, tt.to)
			login := transport.Fixed(to.Host, "mirror+bot", robot)
			dstEnv := backend.Env{HTTP: client(t, transport.Options{Credentials: login}), PlainHTTP: true}
			srcEnv := backend.Env{HTTP: client(t, transport.Options{}), PlainHTTP: true}
			tgt := open(t, to.Host, dstEnv)
			var wg sync.WaitGroup
			for i := range images {
				wg.Go(func() {
					src, err := registry.Open(oci.Ref{Registry: from.Host, Repository: fmt.Sprintf("kolla/app%d", i), Tag: "v1"}, srcEnv)
					if err != nil {
						t.Error(err)
						return
					}
					dst, err := tgt.Image(t.Context(), oci.Ref{Registry: to.Host, Repository: fmt.Sprintf("mirror/app%d", i), Tag: "v1"})
					if err != nil {
						t.Error(err)
						return
					}
					defer dst.Close()
					if _, err := copyImage(t.Context(), src, dst, "", true); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for blob, n := range far.Transfers().Gets {
				if n != 1 {
					t.Errorf("%v was fetched %d times", blob, n)
				}
			}
			for blob, n := range near.Transfers().Puts {
				if n != 1 {
					t.Errorf("%v was put %d times", blob, n)
				}
			}
		})
	}
}

func TestCreatedRepositories(t *testing.T) {
	robot := func(s *quaytest.Server, token string) (string, string) { return "mirror+bot", token }
	admin := func(*quaytest.Server, string) (string, string) { return "alice", "secret" }
	tests := []struct {
		name       string
		login      func(s *quaytest.Server, robot string) (user, password string)
		api        bool // with an API token
		visibility string
		readFirst  bool // the name is looked up before it is written, as the pipeline does
		want       string
	}{
		{"a robot that may create", robot, false, "", true, "private"},
		{"nobody looked before", robot, false, "", false, "private"},
		{"an admin", admin, false, "", true, "private"},
		{"an admin, nobody looked before", admin, false, "", false, "private"},
		{"with a token", robot, true, "", true, "private"},
		{"made public", robot, true, "public", true, "public"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, run, robotToken := startQuay(t, quaytest.Options{})
			img := multiArch(1, 1000)
			if err := s.Push(t.Context(), "mirror/old", "v0", img); err != nil {
				t.Fatal(err)
			}
			if err := s.Grant("mirror/old", "mirror+bot", "write"); err != nil {
				t.Fatal(err)
			}
			user, password := tt.login(s, robotToken)
			env := backend.Env{
				HTTP:      client(t, transport.Options{Credentials: transport.Fixed(run.Host, user, password)}),
				PlainHTTP: true, QuayHost: run.Host, Visibility: tt.visibility,
			}
			if tt.api {
				env.APIToken = s.AddToken("alice", "repo:admin")
			}
			tgt := open(t, run.Host, env)
			for _, name := range []string{"mirror/old", "mirror/new", "mirror/new"} {
				dst, err := tgt.Image(t.Context(), oci.Ref{Registry: run.Host, Repository: name, Tag: "v1"})
				if err != nil {
					t.Fatal(err)
				}
				if tt.readFirst {
					_, _ = dst.Head(t.Context(), "")
				}
				if err := put(t.Context(), dst, img); err != nil {
					t.Fatal(err)
				}
				if err := dst.Commit(t.Context(), img.Desc, img.Desc); err != nil {
					t.Fatal(err)
				}
			}
			want := []oci.CreatedRepository{{Repository: run.Host + "/mirror/new", Visibility: tt.want}}
			if got := tgt.(oci.Creator).Created(); !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			c := &quay.Client{Host: run.Host, HTTP: client(t, transport.Options{}), PlainHTTP: true}
			if _, err := c.Repository(t.Context(), "mirror/new"); (err == nil) != (tt.want == "public") {
				t.Errorf("a stranger gets %v of what is %s", err, tt.want)
			}
		})
	}
}

func TestVisibilityThatCanNotBeSet(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	env := backend.Env{
		HTTP:      client(t, transport.Options{Credentials: transport.Fixed(run.Host, "mirror+bot", robot)}),
		PlainHTTP: true, Visibility: "public", APIToken: s.AddToken("alice", "repo:read"),
	}
	dst, err := open(t, run.Host, env).Image(t.Context(), oci.Ref{Registry: run.Host, Repository: "mirror/new", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	img := multiArch(1, 1000)
	if err := put(t.Context(), dst, img); err != nil {
		t.Fatal(err)
	}
	if err := dst.Commit(t.Context(), img.Desc, img.Desc); err == nil {
		t.Error("the user isn't told")
	}
}

func TestReadsCreateNothing(t *testing.T) {
	s, run, robot := startQuay(t, quaytest.Options{})
	env := backend.Env{
		HTTP:      client(t, transport.Options{Credentials: transport.Fixed(run.Host, "mirror+bot", robot)}),
		PlainHTTP: true, QuayHost: run.Host,
	}
	dst, err := open(t, run.Host, env).Image(t.Context(), oci.Ref{Registry: run.Host, Repository: "mirror/new", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = dst.Head(t.Context(), "")
	if there, err := dst.Has(t.Context(), random(1, 10).desc()); there || err != nil {
		t.Errorf("has: %v, %v", there, err)
	}
	c := &quay.Client{Host: run.Host, Token: s.AddToken("alice", "repo:admin"), HTTP: client(t, transport.Options{}), PlainHTTP: true}
	if _, err := c.Repository(t.Context(), "mirror/new"); err == nil {
		t.Error("a look has created the repository")
	}
}

func TestQuaySaysWhatItMinds(t *testing.T) {
	s, run, _ := startQuay(t, quaytest.Options{})
	img := multiArch(1, 1000)
	if err := s.Push(t.Context(), "mirror/old", "v1", img); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteTag("mirror/old", "v1"); err != nil {
		t.Fatal(err)
	}
	env := backend.Env{HTTP: client(t, transport.Options{}), PlainHTTP: true}
	src, err := registry.Open(oci.Ref{Registry: run.Host, Repository: "mirror/old", Tag: "v1"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = src.Resolve(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "time machine") {
		t.Errorf("got %v, want a hint at the time machine", err)
	}
	wrong := backend.Env{HTTP: client(t, transport.Options{Credentials: transport.Fixed(run.Host, "mirror+bot", "wrong")}), PlainHTTP: true}
	dst, err := open(t, run.Host, wrong).Image(t.Context(), oci.Ref{Registry: run.Host, Repository: "mirror/new", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Head(t.Context(), ""); !errors.Is(err, oci.ErrDenied) || errors.Is(err, oci.ErrNotFound) {
		t.Errorf("a wrong password passes for a name that isn't there: %v", err)
	}
}
