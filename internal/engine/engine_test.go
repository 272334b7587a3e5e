package engine_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

func TestNew(t *testing.T) {
	tests := []struct {
		host, want string
		local, ok  bool
	}{
		{"", "unix:///var/run/docker.sock", true, true},
		{"/run/podman/podman.sock", "unix:///run/podman/podman.sock", true, true},
		{"unix:///a b", "unix:///a b", true, true},
		{"tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375", true, true},
		{"tcp://localhost", "tcp://localhost", true, true},
		{"tcp://[::1]:2375", "tcp://[::1]:2375", true, true},
		{"tcp://docker.example.com:2375/", "tcp://docker.example.com:2375/", false, true},
		{"tcp://a/b", "", false, false},
		{"unix://", "", false, false},
		{"ssh://me@there", "", false, false},
		{"docker.sock", "", false, false},
	}
	for _, tt := range tests {
		c, err := engine.New(tt.host, "")
		switch {
		case !tt.ok:
			if !errors.Is(err, oci.ErrUsage) {
				t.Errorf("New(%q): %v, want a usage error", tt.host, err)
			}
		case err != nil:
			t.Errorf("New(%q): %v", tt.host, err)
		case c.String() != tt.want || c.Local() != tt.local:
			t.Errorf("New(%q) is %s, local %v; want %s, %v", tt.host, c, c.Local(), tt.want, tt.local)
		}
	}
}

func TestEscapeRef(t *testing.T) {
	for in, want := range map[string]string{
		"a.example:5000/b/c:v1": "a.example:5000/b/c:v1",
		"a?b#c%d e":             "a%3Fb%23c%25d%20e",
		"a@sha256:00":           "a@sha256:00",
	} {
		if got := engine.EscapeRef(in); got != want {
			t.Errorf("EscapeRef(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestReadProgress(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"good", `{"status":"a"}` + "\r\n" + `{"status":"b","progressDetail":{"current":1}}`, ""},
		{"empty", "", ""},
		{"error", `{"status":"a"}` + "\n" + `{"errorDetail":{"message":"no"},"error":"no"}`, "no"},
		{"the first error counts, what follows is read", `{"error":"first"}` + "\n" + `{"error":"second"}`, "first"},
		{"an error, and then no JSON", `{"error":"first"}` + "\n<html>", "first"},
		{"detail alone", `{"errorDetail":{"message":"why"}}`, "why"},
		{"an error without words", `{"errorDetail":{"code":1}}`, "without words"},
		{"control characters", `{"error":"a\u001b[31mb\nc"}`, "a[31mb c"},
		{"no JSON", "<html>", "invalid content"},
		{"cut off", `{"status":"a"`, "invalid content"},
		{"an endless line", `{"status":"` + strings.Repeat("a", 2<<20), "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := engine.ReadProgress(strings.NewReader(tt.in), nil)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// serve answers on a socket as h does.
func serve(t *testing.T, h http.HandlerFunc) *engine.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	c, err := engine.New(path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRefusals(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			http.Error(w, `{"message":"No such image: a"}`, http.StatusNotFound)
		case "/denied":
			http.Error(w, "who are\nyou", http.StatusForbidden)
		case "/elsewhere":
			http.Redirect(w, r, "/missing", http.StatusMovedPermanently)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		case "/html":
			_, _ = w.Write([]byte("<html>"))
		case "/slow":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	var v any
	tests := []struct {
		path, text string
		is         error
	}{
		{"/missing", "No such image: a", oci.ErrNotFound},
		{"/denied", "who are you", oci.ErrDenied},
		{"/elsewhere", "Moved", nil},
		{"/endless", "", oci.ErrTooLarge},
		{"/html", "", oci.ErrInvalid},
	}
	for _, tt := range tests {
		err := c.JSON(t.Context(), tt.path, url.Values{"a": {"b c"}}, &v)
		if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), c.String()) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v; want %q, %v", tt.path, err, tt.text, tt.is)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	go cancel(stop)
	if err := c.Progress(ctx, engine.Call{Path: "/slow"}, nil); !errors.Is(err, stop) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c, err := engine.New(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), engine.Call{Path: "/_ping"}); err == nil || !strings.Contains(err.Error(), path+": there is no socket") {
		t.Errorf("no socket: %v", err)
	}
}
