package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// holding gives a registry that holds c in repository a.
func holding(t *testing.T, c *content) *far {
	t.Helper()
	f := newFar(t)
	if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	f.log()
	return f
}

func fetch(ctx context.Context, src oci.Source, d oci.Descriptor) ([]byte, error) {
	rc, err := src.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// cutting lets the registry answer, but drops the connection after n bytes of
// a blob's body. noRange makes it forget Range first.
func (f *far) cutting(n int, noRange bool) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			return false
		}
		if noRange {
			r.Header.Del("Range")
		}
		rec := httptest.NewRecorder()
		f.next.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		body := rec.Body.Bytes()
		_, _ = w.Write(body[:min(n, len(body))])
		if n < len(body) {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		return true
	}
}

func TestFetchGoesOnWhereItBroke(t *testing.T) {
	c := random(1, 1<<20)
	f := holding(t, c)
	for _, size := range []int64{int64(len(c.bytes)), -1} {
		f.fail(f.cutting(100<<10, false))
		d := c.desc()
		d.Size = size
		got, err := fetch(t.Context(), f.source(t, "a", "1"), d)
		if err != nil || !bytes.Equal(got, c.bytes) {
			t.Fatalf("size %d: got %d bytes, %v", size, len(got), err)
		}
		if n := count(f.log(), "GET", "/blobs/"); n != 11 {
			t.Errorf("size %d: %d requests, want 11 of at most 100 KiB", size, n)
		}
	}
}

func TestFetchWithoutRanges(t *testing.T) {
	c := random(2, 1<<20)
	f := holding(t, c)
	var cut atomic.Int32
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return f.cutting(int(cut.Add(1))*400<<10, true)(w, r)
	})
	got, err := fetch(t.Context(), f.source(t, "a", "1"), c.desc())
	if err != nil || !bytes.Equal(got, c.bytes) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestFetchGivesUpWithoutProgress(t *testing.T) {
	c := random(3, 1<<20)
	f := holding(t, c)
	cut := f.cutting(300<<10, false)
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			return reset(w)
		}
		return cut(w, r)
	})
	got, err := fetch(t.Context(), f.source(t, "a", "1"), c.desc())
	if err == nil || len(got) >= len(c.bytes) || !strings.Contains(err.Error(), "byte 307200") {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if n := count(f.log(), "GET", "/blobs/"); n > 10 {
		t.Errorf("%d requests for nothing", n)
	}
}

func TestFetchRefuses(t *testing.T) {
	c := random(4, 300<<10)
	f := holding(t, c)
	wrong := bytes.Clone(c.bytes)
	wrong[len(wrong)-1] ^= 1
	serve := func(body []byte) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write(body); return true }
	}
	cut := f.cutting(100<<10, false)
	shifted := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "" {
			return cut(w, r)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(c.bytes)-1, len(c.bytes)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(c.bytes)
		return true
	}
	tests := []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request) bool
		want  error
	}{
		{"wrong bytes of the right length", serve(wrong), oci.ErrDigestMismatch},
		{"a longer blob", serve(append(bytes.Clone(c.bytes), 'x')), oci.ErrDigestMismatch},
		{"a shorter blob", serve(c.bytes[:1000]), oci.ErrDigestMismatch},
		{"another range than asked for", shifted, oci.ErrInvalid},
		{"not there", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 404, "BLOB_UNKNOWN") }, oci.ErrNotFound},
		{"not there any more", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Header.Get("Range") != "" && answer(w, 404, "BLOB_UNKNOWN") || cut(w, r)
		}, oci.ErrNotFound},
		{"no right", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 401, "UNAUTHORIZED") }, oci.ErrDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.fail(tt.fault)
			got, err := fetch(t.Context(), f.source(t, "a", "1"), c.desc())
			if !errors.Is(err, tt.want) || len(got) >= len(c.bytes) {
				t.Errorf("got %d of %d bytes, %v, want %v", len(got), len(c.bytes), err, tt.want)
			}
		})
	}
}

func TestFetchSignsAgainWhatExpired(t *testing.T) {
	c := random(5, 300<<10)
	f := holding(t, c)
	f.http = client(t, transport.Options{})
	var signed, served atomic.Int32
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("signature") != fmt.Sprint(signed.Load()) || served.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusForbidden) // every other time: "expired"
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(c.bytes))
	}))
	defer storage.Close()
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, fmt.Sprintf("%s/blob?signature=%d", storage.URL, signed.Add(1)), http.StatusFound)
		return true
	})
	got, err := fetch(t.Context(), f.source(t, "a", "1"), c.desc())
	if err != nil || !bytes.Equal(got, c.bytes) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if signed.Load() != 2 {
		t.Errorf("%d signed addresses, want 2", signed.Load())
	}
}

func TestFetchErrorsHoldNoSignature(t *testing.T) {
	f := holding(t, random(6, 10))
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, "http://127.0.0.1:1/blob?signature=hunter2", http.StatusFound)
		return true
	})
	_, err := fetch(t.Context(), f.source(t, "a", "1"), random(6, 10).desc())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	c := random(8, 300<<10)
	f := holding(t, c)
	f.fail(f.cutting(100<<10, false))
	ctx, cancel := context.WithCancel(t.Context())
	rc, err := f.source(t, "a", "1").Fetch(ctx, c.desc())
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	cancel()
	if _, err := io.ReadAll(rc); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

func TestForeignLayersAreNotFetchedFromTheirAddresses(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	f := newFar(t)
	d := random(9, 10).desc()
	d.URLs = []string{elsewhere.URL + "/layer"}
	if _, err := f.source(t, "a", "1").Fetch(t.Context(), d); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("got %v, want not found", err)
	}
	if asked.Load() != 0 {
		t.Error("the layer's urls were asked")
	}
}

func TestReadsAskForPullOnly(t *testing.T) {
	c := random(10, 10)
	f := holding(t, c)
	s := &scopes{next: f.http.Transport, seen: map[string][]string{}}
	env := f.env()
	env.HTTP = &http.Client{Transport: s}
	src, err := registry.Open(f.ref("a", "1"), env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), src, c.desc()); err != nil {
		t.Fatal(err)
	}
	_, _ = src.Head(t.Context(), "")
	dst, err := f.target(t, env).Image(t.Context(), f.ref("a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if there, err := dst.Has(t.Context(), c.desc()); !there || err != nil {
		t.Errorf("has: %v, %v", there, err)
	}
	_, _ = dst.Head(t.Context(), "")
	for request, got := range s.seen {
		if len(got) != 1 || got[0] != "repository:a:pull" {
			t.Errorf("%s asks for %q", request, got)
		}
	}
}
