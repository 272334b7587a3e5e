package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	small  = 100 << 10 // is sent from memory
	medium = 1<<20 + 1 // is not: it is asked for
	large  = 3 << 20
)

func TestUploadTakesTwoRequests(t *testing.T) {
	for _, size := range []int{0, small, medium, large} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := newFar(t)
			c := random(1, size)
			d, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob())
			if err != nil || d.Digest != c.desc().Digest || d.Size != int64(size) {
				t.Fatalf("got %+v, %v", d, err)
			}
			asked := f.log()
			if len(asked) != 2 || count(asked, "POST", "/blobs/uploads/") != 1 || count(asked, "PUT", "/blobs/uploads/") != 1 {
				t.Errorf("asked %q", asked)
			}
			f.has(t, "a", c)
		})
	}
}

func TestUploadLearnsDigestAndSize(t *testing.T) {
	tests := []struct {
		name string
		bend func(*oci.Descriptor)
	}{
		{"neither is known", func(d *oci.Descriptor) { d.Digest, d.Size = "", -1 }},
		{"only the digest is known", func(d *oci.Descriptor) { d.Size = -1 }},
		{"only the size is known", func(d *oci.Descriptor) { d.Digest = "" }},
	}
	for _, tt := range tests {
		for _, size := range []int{0, small, large} {
			t.Run(fmt.Sprint(tt.name, " ", size), func(t *testing.T) {
				f := newFar(t)
				c := random(2, size)
				b := c.blob()
				tt.bend(&b.Desc)
				d, err := f.destination(t, "a", "1").PutBlob(t.Context(), b)
				if err != nil || d.Digest != c.desc().Digest || d.Size != int64(size) {
					t.Fatalf("got %+v, %v", d, err)
				}
				if asked := f.log(); len(asked) != 3 || count(asked, "PATCH", "") != 1 {
					t.Errorf("asked %q", asked)
				}
				f.has(t, "a", c)
			})
		}
	}
}

// What a registry refuses before it read any content must not have cost the
// source anything; and no fault makes the source give its content twice.
func TestUploadRefusedEarlyCostsTheSourceNothing(t *testing.T) {
	busy := func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 503, "UNAVAILABLE") }
	tests := []struct {
		name         string
		method, part string
		fault        func(http.ResponseWriter, *http.Request) bool
	}{
		{"503 to the POST", "POST", "/uploads/", busy},
		{"503 to the PUT", "PUT", "/uploads/", busy},
		{"401 to the PUT", "PUT", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 401, "UNAUTHORIZED") }},
		{"session lost", "PUT", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 404, "BLOB_UPLOAD_UNKNOWN") }},
		{"reset instead of the POST's answer", "POST", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool { return reset(w) }},
		{"reset instead of the PUT's answer", "PUT", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool { return reset(w) }},
		{"no Expect, please", "PUT", "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Header.Get("Expect") != "" && answer(w, 417, "")
		}},
	}
	for _, tt := range tests {
		for _, size := range []int{small, large} {
			t.Run(fmt.Sprint(tt.name, " ", size), func(t *testing.T) {
				f := newFar(t)
				f.fail(once(tt.method, tt.part, tt.fault))
				c := random(3, size)
				if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob()); err != nil {
					t.Fatal(err)
				}
				if o, n := c.opened.Load(), c.completed.Load(); o != 1 || n != 1 {
					t.Errorf("the content was opened %d times and read to its end %d times", o, n)
				}
				f.has(t, "a", c)
			})
		}
	}
}

// A server that keeps its connection after an early answer makes net/http send
// the body all the same; Go's own server doesn't, so this one is by hand.
func TestUploadRefusedOnAConnectionThatLives(t *testing.T) {
	f := newFar(t)
	f.fail(once("PUT", "/uploads/", func(w http.ResponseWriter, _ *http.Request) bool {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		_, _ = buf.WriteString("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
		_ = buf.Flush()
		_, _ = io.Copy(io.Discard, buf) // until the client gives up
		_ = conn.Close()
		return true
	}))
	c := random(4, large)
	if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	if o := c.opened.Load(); o != 1 {
		t.Errorf("the content was opened %d times", o)
	}
	f.has(t, "a", c)
}

func TestUploadOverHTTP2(t *testing.T) {
	f := newFar(t)
	s := httptest.NewUnstartedServer(f)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	f.http, f.host = client(t, transport.Options{Retries: -1, SkipVerify: true}), strings.TrimPrefix(s.URL, "https://")
	var proto atomic.Value
	refuse := once("PUT", "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
		proto.Store(r.Proto)
		return answer(w, 503, "UNAVAILABLE")
	})
	f.fail(refuse)
	env := f.env()
	env.PlainHTTP = false
	dst, err := f.target(t, env).Image(t.Context(), f.ref("a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	c := random(5, large)
	if _, err := dst.PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	if o := c.opened.Load(); o != 1 || proto.Load() != "HTTP/2.0" {
		t.Errorf("over %s the content was opened %d times", proto.Load(), o)
	}
	f.has(t, "a", c)
}

// The work was done, but its answer is lost: HEAD settles it.
func TestUploadWhoseEndIsUnclear(t *testing.T) {
	ends := map[string]func(http.ResponseWriter) bool{
		"reset": reset,
		"500":   func(w http.ResponseWriter) bool { return answer(w, 500, "UNKNOWN") },
	}
	for name, end := range ends {
		for _, size := range []int{small, large} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				f := newFar(t)
				f.fail(once("PUT", "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
					f.next.ServeHTTP(httptest.NewRecorder(), r)
					return end(w)
				}))
				c := random(6, size)
				if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob()); err != nil {
					t.Fatal(err)
				}
				asked := f.log()
				if n := c.completed.Load(); n != 1 || count(asked, "PUT", "") != 1 || count(asked, "HEAD", "/blobs/") != 1 {
					t.Errorf("content was read %d times, asked %q", n, asked)
				}
			})
		}
	}
}

func TestUploadThatBreaksInTheMiddleStartsAgain(t *testing.T) {
	for _, learn := range []bool{false, true} {
		f := newFar(t)
		method := map[bool]string{false: "PUT", true: "PATCH"}[learn]
		f.fail(once(method, "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
			return reset(w)
		}))
		c := random(7, 32<<20) // more than the kernel buffers
		b := c.blob()
		if learn {
			b.Desc.Digest, b.Desc.Size = "", -1
		}
		if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		asked := f.log()
		if o, n := c.opened.Load(), c.completed.Load(); o != 2 || n != 1 || count(asked, "POST", "") != 2 || count(asked, "DELETE", "/uploads/") != 1 {
			t.Errorf("opened %d times, read %d times, asked %q", o, n, asked)
		}
		f.has(t, "a", c)
	}
}

func TestUploadRefuses(t *testing.T) {
	wrong := func(c *content) { c.bytes = bytes.Clone(c.bytes); c.bytes[0] ^= 1 }
	fails := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method != http.MethodDelete && answer(w, status, code)
		}
	}
	on := func(method string, fault func(http.ResponseWriter, *http.Request) bool) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool { return r.Method == method && fault(w, r) }
	}
	tests := []struct {
		name   string
		spoil  func(*content) // after its digest was taken
		fault  func(http.ResponseWriter, *http.Request) bool
		want   error
		says   string
		starts int // POSTs
	}{
		{"no right", nil, fails(401, "UNAUTHORIZED"), oci.ErrDenied, "put blob", 1},
		{"no right to the content", nil, on("PUT", fails(401, "UNAUTHORIZED")), oci.ErrDenied, "", 2},
		{"quota", nil, fails(403, "DENIED"), oci.ErrDenied, "DENIED", 1},
		{"no such repository", nil, fails(404, "NAME_UNKNOWN"), oci.ErrNotFound, "", 1},
		{"too large", nil, on("PUT", fails(413, "")), nil, "413", 1},
		{"the registry finds another digest", nil, on("PUT", fails(400, "BLOB_UPLOAD_INVALID")), nil, "BLOB_UPLOAD_INVALID", 1},
		{"for ever busy", nil, fails(503, ""), nil, "503", 5},
		{"too short", func(c *content) { c.bytes = c.bytes[1:] }, nil, oci.ErrDigestMismatch, "", -1},
		{"too long", func(c *content) { c.bytes = append(bytes.Clone(c.bytes), 'x') }, nil, oci.ErrDigestMismatch, "", -1},
		{"wrong bytes", wrong, nil, nil, "", 1},
	}
	for _, tt := range tests {
		for _, size := range []int{small, medium, large} {
			t.Run(fmt.Sprint(tt.name, " ", size), func(t *testing.T) {
				f := newFar(t)
				f.fail(tt.fault)
				c := random(8, size)
				b := c.blob()
				if tt.spoil != nil {
					tt.spoil(c)
				}
				_, err := f.destination(t, "a", "1").PutBlob(t.Context(), b)
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v, want %v that says %q", err, tt.want, tt.says)
				}
				asked := f.log()
				if n := count(asked, "POST", ""); n != tt.starts && tt.starts >= 0 {
					t.Errorf("%d POSTs, want %d", n, tt.starts)
				}
				if started := count(asked, "PUT", ""); started > 0 && count(asked, "DELETE", "/uploads/") == 0 {
					t.Errorf("the session was left behind: %q", asked)
				}
			})
		}
	}
}

func TestContentThatFailsIsNotTheRegistrysFault(t *testing.T) {
	broken := errors.New("the disk is gone")
	for _, size := range []int{small, large} {
		f := newFar(t)
		c := random(9, size)
		b := c.blob()
		b.Open = func(context.Context) (io.ReadCloser, error) {
			c.opened.Add(1)
			return io.NopCloser(io.MultiReader(bytes.NewReader(c.bytes[:size/2]), failing{broken})), nil
		}
		if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), b); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
		if o := c.opened.Load(); o != 1 {
			t.Errorf("opened %d times", o)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestWrongContentIsReadAgain(t *testing.T) {
	for _, size := range []int{small, large} {
		f := newFar(t)
		c := random(10, size)
		b := c.blob()
		b.Open = func(ctx context.Context) (io.ReadCloser, error) {
			rc, err := c.open(ctx)
			if c.opened.Load() == 1 {
				rc = io.NopCloser(io.LimitReader(rc, 1000))
			}
			return oci.Verify(rc, b.Desc), err
		}
		if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		f.has(t, "a", c)
	}
}

func TestUploadToAnotherHost(t *testing.T) {
	f := newFar(t)
	var authorized atomic.Int32
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			authorized.Add(1)
		}
		f.next.ServeHTTP(w, r)
	}))
	defer store.Close()
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			rec := httptest.NewRecorder()
			f.next.ServeHTTP(rec, r)
			w.Header().Set("Location", store.URL+rec.Header().Get("Location")+"?state=a%2Fb+c")
			w.WriteHeader(http.StatusAccepted)
			return true
		}
		return false
	})
	f.http = client(t, transport.Options{Credentials: transport.Fixed(f.host, "u", "hunter2")})
	c := random(11, small)
	if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob()); err != nil {
		t.Fatal(err)
	}
	if authorized.Load() != 0 {
		t.Error("the other host was shown credentials")
	}
	f.has(t, "a", c)
}

func TestUploadEndsWithItsContext(t *testing.T) {
	f := newFar(t)
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan struct{})
	f.fail(once("PUT", "/uploads/", func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		cancel()
		<-returned
		return true
	}))
	c := random(12, large)
	_, err := f.destination(t, "a", "1").PutBlob(ctx, c.blob())
	close(returned)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if asked := f.log(); count(asked, "POST", "") != 1 || count(asked, "DELETE", "/uploads/") != 1 {
		t.Errorf("asked %q", asked)
	}
}

// The promise of the package: whatever fails on the way, every blob arrives,
// and the source gives each exactly once.
func TestUploadsUnderFaults(t *testing.T) {
	f := newFar(t)
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	f.fail(func(w http.ResponseWriter, _ *http.Request) bool {
		mu.Lock()
		x := rng.Float64()
		mu.Unlock()
		switch {
		case x < 0.05:
			return reset(w)
		case x < 0.10:
			return answer(w, 503, "UNAVAILABLE")
		}
		return false
	})
	dst := f.destination(t, "a", "1")
	contents := make([]*content, 60)
	var wg sync.WaitGroup
	for i := range contents {
		size := small
		if i%3 == 0 {
			size = large / 2
		}
		contents[i] = random(uint64(100+i), size+i)
		wg.Go(func() {
			if _, err := dst.PutBlob(t.Context(), contents[i].blob()); err != nil {
				t.Error(err)
			}
		})
		if i%6 == 5 {
			wg.Wait()
		}
	}
	wg.Wait()
	f.fail(nil)
	for i, c := range contents {
		if n := c.completed.Load(); n != 1 {
			t.Errorf("blob %d was read to its end %d times", i, n)
		}
		f.has(t, "a", c)
	}
}

func TestWritesAskForPullAndPush(t *testing.T) {
	f := newFar(t)
	s := &scopes{next: f.http.Transport, seen: map[string][]string{}}
	f.http = &http.Client{Transport: s}
	dst := f.destination(t, "a", "1")
	c := random(13, small)
	b := c.blob()
	var inner []string
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		inner = scopesOf(ctx, f.host)
		return c.open(ctx)
	}
	if _, err := dst.PutBlob(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if len(inner) != 0 {
		t.Errorf("the source would be asked for the destination's %q", inner)
	}
	if _, err := dst.(oci.Mounter).Mount(t.Context(), c.desc(), "b"); err != nil {
		t.Fatal(err)
	}
	want := []string{"repository:a:pull,push", "repository:b:pull"}
	if got := s.seen["POST /v2/a/blobs/uploads/"]; !slices.Equal(got, want) {
		t.Errorf("POSTs ask for %q, want %q", got, want)
	}
}
