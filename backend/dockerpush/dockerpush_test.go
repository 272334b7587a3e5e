package dockerpush_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/dockerpush"
	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/oci"
)

func gunzip(t *testing.T, raw []byte) []byte {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const name = "example.com/a/b:v1"

func TestDaemons(t *testing.T) {
	for kind, start := range map[string]func(testing.TB) daemontest.Daemon{"docker": daemontest.Docker, "podman": daemontest.Podman} {
		t.Run(kind, func(t *testing.T) {
			d := start(t)
			twice := layer(t, 2, 1000)
			layers := [][]byte{layer(t, 1, 3<<20), twice, layer(t, 3, 20_000), twice}
			d.Do(t, "load", "--input", saved(t, name, layers...))
			t.Run("reads", func(t *testing.T) { reads(t, d, layers) })
			t.Run("nobody else", func(t *testing.T) { nobodyElse(t, d) })
			t.Run("faults", func(t *testing.T) { faults(t, d) })
			t.Run("closed", func(t *testing.T) { closed(t, d) })
			t.Run("killed", func(t *testing.T) { killed(t, d) })
			t.Run("no room", func(t *testing.T) { noRoom(t, d) })
		})
	}
}

// reads is that the image comes as the daemon has it, by one push.
func reads(t *testing.T, d daemontest.Daemon, layers [][]byte) {
	nothingLeft(t)
	p := newProxy(t, d)
	images := open(t, p.socket, name, nil)
	var items []oci.Item
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	if len(items) != 1 || items[0].Ref.String() != name || images.Bulk() || len(p.calls) != 0 {
		t.Errorf("items %v, bulk %v, calls %q", items, images.Bulk(), p.calls)
	}
	src, err := images.Source(t.Context(), items[0])
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := src.Head(t.Context(), "v1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	desc, raw, err := src.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(desc.MediaType, raw)
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(raw) != desc.Digest || int64(len(raw)) != desc.Size {
		t.Errorf("descriptor %v of %s", desc, raw)
	}
	if id := strings.TrimSpace(d.Do(t, "image", "inspect", "--format", "{{.Id}}", name)); !strings.HasSuffix(id, m.Config.Digest.Encoded()) {
		t.Errorf("config %s, the daemon's ID is %s", m.Config.Digest, id)
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(fetch(t, src, *m.Config), &cfg); err != nil {
		t.Fatal(err)
	}
	var got, want []oci.Digest
	for i, l := range m.Layers {
		raw := gunzip(t, fetch(t, src, l))
		got = append(got, digest.FromBytes(raw))
		if i == 0 && len(members(t, raw)) != 1 {
			t.Errorf("layer 0 holds %q", members(t, raw))
		}
	}
	for _, l := range layers {
		want = append(want, digest.FromBytes(l))
	}
	if !slices.Equal(got, want) || !slices.Equal(cfg.RootFS.DiffIDs, want) {
		t.Errorf("layers %v, config %v, want %v", got, cfg.RootFS.DiffIDs, want)
	}
	for _, ref := range []string{"v1", string(desc.Digest)} {
		if again, err := src.Head(t.Context(), ref); err != nil || again.Digest != desc.Digest {
			t.Errorf("%s: %v, %v", ref, again, err)
		}
	}
	for _, ref := range []string{"v2", string(m.Config.Digest)} {
		if _, err := src.Head(t.Context(), ref); !errors.Is(err, oci.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := src.Fetch(t.Context(), oci.Descriptor{Digest: digest.FromString("another"), Size: 7}); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("a blob that isn't there: %v", err)
	}
	bad := m.Layers[0]
	bad.Size++
	if _, err := src.Fetch(t.Context(), bad); !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("a blob of another size: %v", err)
	}
	if n := p.count("POST", "/push"); n != 1 {
		t.Errorf("%d pushes", n)
	}
	tagGone(t, d)
}

func fetch(t *testing.T, src oci.Source, d oci.Descriptor) []byte {
	t.Helper()
	rc, err := src.Fetch(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// nobodyElse is that who hasn't the password gets nothing, and who has it no more
// than a daemon needs.
func nobodyElse(t *testing.T, d daemontest.Daemon) {
	nothingLeft(t)
	p := newProxy(t, d)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	p.onPush = func(w http.ResponseWriter, r *http.Request) {
		host, repo, _ := strings.Cut(p.repo, "/")
		user, password := p.login(t)
		if len(password) != 32 || len(repo) < 32 || strings.Contains(repo, password) {
			t.Errorf("repository %q, password %q", repo, password)
		}
		ask := func(method, path, password string) int {
			req, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, nil)
			if err != nil {
				t.Error(err)
				return 0
			}
			if password != "" {
				req.SetBasicAuth(user, password)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		none := "sha256:" + strings.Repeat("0", 64)
		tests := []struct {
			method, path, password string
			want                   int
		}{
			{"GET", "/v2/", "", 401},
			{"GET", "/v2/", "guess", 401},
			{"POST", "/v2/" + repo + "/blobs/uploads/", "", 401},
			{"GET", "/v2/", password, 200},
			{"GET", "/v2/_catalog", password, 404},
			{"GET", "/", password, 404},
			{"POST", "/v2/other/blobs/uploads/", password, 404},
			{"POST", "/v2/" + repo + "x/blobs/uploads/", password, 404},
			{"HEAD", "/v2/" + repo + "/blobs/" + none, password, 404},
			{"HEAD", "/v2/" + repo + "/manifests/v1", password, 404},
			{"POST", "/v2/" + repo + "/blobs/uploads/?mount=" + none + "&from=other", password, 202},
			{"PATCH", "/v2/" + repo + "/blobs/uploads/dW5rbm93bg", password, 404},
		}
		for _, tt := range tests {
			if got := ask(tt.method, tt.path, tt.password); got != tt.want {
				t.Errorf("%s %s with %q: %d, want %d", tt.method, tt.path, tt.password, got, tt.want)
			}
		}
		if got := ask("GET", "/v2/"+repo+"/blobs/"+none, password); got < 400 {
			t.Errorf("reading a blob: %d", got)
		}
		p.pass.ServeHTTP(w, r)
	}
	src, err := open(t, p.socket, name, nil).Source(t.Context(), oci.Item{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Head(t.Context(), ""); err != nil {
		t.Error(err)
	}
	tagGone(t, d)
}

// faults is that whatever goes wrong is told, and leaves nothing behind.
func faults(t *testing.T, d daemontest.Daemon) {
	defer dockerpush.SetManifestTime(100 * time.Millisecond)()
	stop := errors.New("interrupted")
	say := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	tests := []struct {
		name, image string
		prepare     func(p *proxy, cancel context.CancelCauseFunc)
		want        string
		is          error
	}{
		{"no such image", "example.com/no/such:v1", nil, "for a registry write registry://example.com/no/such:v1", oci.ErrNotFound},
		{"no such short name", "such", nil, "has no such image", oci.ErrNotFound},
		{"an error in the stream", name, func(p *proxy, _ context.CancelCauseFunc) {
			p.onPush = say(`{"status":"preparing"}` + "\n" + `{"errorDetail":{"message":"it hurts"},"error":"it hurts"}` + "\n")
		}, "it hurts", nil},
		{"no manifest", name, func(p *proxy, _ context.CancelCauseFunc) { p.onPush = say(`{"status":"done"}`) }, "there is no manifest", oci.ErrInvalid},
		{"refused", name, func(p *proxy, _ context.CancelCauseFunc) {
			p.onPush = func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, `{"message":"not today"}`, http.StatusForbidden)
			}
		}, "not today", oci.ErrDenied},
		{"the daemon vanishes", name, func(p *proxy, _ context.CancelCauseFunc) {
			p.onPush = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"status":"preparing"}`+"\n")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
		}, "EOF", nil},
		{"interrupted in the push", name, func(p *proxy, cancel context.CancelCauseFunc) {
			p.onPush = func(w http.ResponseWriter, r *http.Request) {
				cancel(stop)
				p.pass.ServeHTTP(w, r)
			}
		}, "", stop},
		{"a push without end", name, func(p *proxy, cancel context.CancelCauseFunc) {
			p.onPush = func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				cancel(stop)
				<-r.Context().Done()
			}
		}, "", stop},
		{"interrupted in the tagging", name, func(p *proxy, cancel context.CancelCauseFunc) {
			p.onTag = func(w http.ResponseWriter, r *http.Request) {
				cancel(stop)
				p.pass.ServeHTTP(w, r)
			}
		}, "", stop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nothingLeft(t)
			p := newProxy(t, d)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if tt.prepare != nil {
				tt.prepare(p, cancel)
			}
			src, err := open(t, p.socket, tt.image, func(s string) { t.Errorf("warned: %s", s) }).Source(ctx, oci.Item{})
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = src.Resolve(ctx, "")
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v; want %q, %v", err, tt.want, tt.is)
			}
			tagGone(t, d)
			if t.Failed() || ctx.Err() == nil || !strings.HasPrefix(tt.name, "interrupted in") {
				return
			}
			p.mu.Lock()
			p.onPush, p.onTag = nil, nil
			p.mu.Unlock()
			if _, err := src.Head(t.Context(), ""); err != nil {
				t.Errorf("asked again: %v", err)
			}
			tagGone(t, d)
		})
	}
}

// closed is that closing ends a push, and that a tag which can't be removed is
// spoken of.
func closed(t *testing.T, d daemontest.Daemon) {
	nothingLeft(t)
	p := newProxy(t, d)
	var warned []string
	images := open(t, p.socket, name, func(s string) { warned = append(warned, s) })
	p.onPush = func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		go images.Close()
		<-r.Context().Done()
	}
	p.onGone = func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}
	src, err := images.Source(t.Context(), oci.Item{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Head(t.Context(), ""); err == nil {
		t.Error("no error")
	}
	if len(warned) != 1 || !strings.Contains(warned[0], p.repo+":v1 may be left") || !strings.Contains(warned[0], "out of order") {
		t.Errorf("warned: %q", warned)
	}
	if _, err := src.Head(t.Context(), ""); err == nil || len(p.calls) > 4 {
		t.Errorf("after Close: %v, calls %q", err, p.calls)
	}
	d.Do(t, "rmi", p.repo+":v1")
	tagGone(t, d)
}

// noRoom is that a registry which can't take a blob says so at once, and why.
func noRoom(t *testing.T, d daemontest.Daemon) {
	nothingLeft(t)
	p := newProxy(t, d)
	images := open(t, p.socket, name, nil)
	src, err := images.Source(t.Context(), oci.Item{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "missing")
	t.Setenv("TMPDIR", dir)
	begin := time.Now()
	if _, err := src.Head(t.Context(), ""); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want the folder %s", err, dir)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("it took %v: the daemon tried again", took)
	}
	tagGone(t, d)
}

func TestNames(t *testing.T) {
	tests := []struct{ in, want string }{ // "" is refused
		{"busybox", "busybox:latest"},
		{"busybox:1", "busybox:1"},
		{"a/b", "a/b:latest"},
		{"docker.io/library/busybox:1", "docker.io/library/busybox:1"},
		{"quay.io/a/b:v1", "quay.io/a/b:v1"},
		{"localhost/a", "localhost/a:latest"},
		{"quay.io/a/b@sha256:" + strings.Repeat("a", 64), "quay.io/a/b"},
		{"", ""},
		{"sha256:" + strings.Repeat("a", 64), ""},
		{"../a", ""},
		{"a?b", ""},
	}
	for _, tt := range tests {
		u, err := backend.ParseURI("dockerpush://" + tt.in)
		if err != nil {
			t.Fatal(err)
		}
		images, err := dockerpush.Kind.Source(t.Context(), u, backend.Env{})
		if err != nil {
			if tt.want != "" || !errors.Is(err, oci.ErrUsage) {
				t.Errorf("%s: %v", tt.in, err)
			}
			continue
		}
		for item := range images.Discover(t.Context()) {
			if item.Ref.String() != tt.want {
				t.Errorf("%s: %s, want %s", tt.in, item.Ref, tt.want)
			}
		}
		if err := images.Close(); err != nil {
			t.Error(err)
		}
	}
	for host, want := range map[string]string{"tcp://docker.example.com:2375": "another machine", "ssh://a": "reached by ssh"} {
		u, err := backend.ParseURI("dockerpush://busybox")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dockerpush.Kind.Source(t.Context(), u, backend.Env{DockerHost: host}); !errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
}
