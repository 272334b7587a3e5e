package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// turns counts how often a client spoke after it was spoken to: its round trips,
// but the first.
type turns struct {
	net.Listener
	mu    sync.Mutex
	n     int
	spoke bool // the server was last
}

func (l *turns) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return turn{c, l}, err
}

type turn struct {
	net.Conn
	l *turns
}

func (c turn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if n > 0 && c.l.spoke {
		c.l.spoke = false
		c.l.n++
	}
	return n, err
}

func (c turn) Write(p []byte) (int, error) {
	c.l.mu.Lock()
	c.l.spoke = true
	c.l.mu.Unlock()
	return c.Conn.Write(p)
}

// To ask before content is sent costs one round trip more.
func TestOnlyLargeUploadsAreAskedFor(t *testing.T) {
	tests := []struct {
		name string
		size int
		bend func(*oci.Descriptor)
		want int // turns after the first
	}{
		{"small", small, nil, 1},
		{"1 MiB", 1 << 20, nil, 1},
		{"medium", medium, nil, 2},
		{"large", large, nil, 2},
		{"of unknown size", medium, func(d *oci.Descriptor) { d.Size = -1 }, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			s := httptest.NewUnstartedServer(f)
			l := &turns{Listener: s.Listener}
			s.Listener = l
			s.Start()
			defer s.Close()
			f.host = s.Listener.Addr().String()
			b := random(1, tt.size).blob()
			if tt.bend != nil {
				tt.bend(&b.Desc)
			}
			if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.n != tt.want {
				t.Errorf("%d turns after the first, want %d", l.n, tt.want)
			}
		})
	}
}

// A registry that answers before it has read the content, and closes the
// connection at once with the rest unread, is heard all the same.
func TestEarlyAnswersAreHeard(t *testing.T) {
	tests := []struct {
		status   string
		attempts int // at least; what is lost costs one more
		want     error
	}{
		{"413 Request Entity Too Large", 1, nil},
		{"401 Unauthorized", 2, oci.ErrDenied},
		{"403 Forbidden", 1, oci.ErrDenied},
		{"500 Internal Server Error", 5, nil},
		{"503 Service Unavailable", 5, nil},
	}
	for _, tt := range tests {
		for _, size := range []int{small, medium, large} {
			t.Run(fmt.Sprint(tt.status, " ", size), func(t *testing.T) {
				f := newFar(t)
				f.fail(func(w http.ResponseWriter, r *http.Request) bool {
					return r.Method == http.MethodPut && blurt(w, tt.status)
				})
				_, err := f.destination(t, "a", "1").PutBlob(t.Context(), random(2, size).blob())
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.status[:3]) {
					t.Errorf("got %v, want %v that says %s", err, tt.want, tt.status)
				}
				if n := count(f.log(), "PUT", ""); n < tt.attempts || n > 5 {
					t.Errorf("%d attempts, want %d: %v", n, tt.attempts, err)
				}
			})
		}
	}
}

func TestEarlyAnswersDoNotEndAnUpload(t *testing.T) {
	tests := []struct {
		status string
		sizes  []int
	}{
		{"401 Unauthorized", []int{small, medium, large}},
		{"500 Internal Server Error", []int{small, medium, large}},
		{"503 Service Unavailable", []int{small, medium, large}},
		{"429 Too Many Requests", []int{medium}}, // the transport waits a second
	}
	for _, tt := range tests {
		for _, size := range tt.sizes {
			t.Run(fmt.Sprint(tt.status, " ", size), func(t *testing.T) {
				t.Parallel()
				f := newFar(t)
				f.fail(once("PUT", "", func(w http.ResponseWriter, _ *http.Request) bool { return blurt(w, tt.status) }))
				c := random(3, size)
				if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), c.blob()); err != nil {
					t.Fatal(err)
				}
				f.has(t, "a", c)
			})
		}
	}
}

// blurt answers without reading the content and hangs up.
func blurt(w http.ResponseWriter, status string) bool {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(buf, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	_ = buf.Flush()
	_ = conn.Close() // with content unread that is a reset
	return true
}

// While a registry is asked, the content is opened; it says no twice, and the
// content is opened once all the same.
func TestContentIsOpenedWhileTheRegistryIsAsked(t *testing.T) {
	f := newFar(t)
	opened := make(chan struct{})
	refusals := 2
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		select {
		case <-opened: // before the registry has said that it wants it
		case <-r.Context().Done():
			return true
		}
		refusals--
		return refusals >= 0 && blurt(w, "503 Service Unavailable")
	})
	b := random(3, large).blob()
	content, opens := b.Open, 0
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		if opens++; opens == 1 {
			defer close(opened)
		}
		return content(ctx)
	}
	if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), b); err != nil || opens != 1 {
		t.Errorf("it was opened %d times, %v", opens, err)
	}
}

// What was opened for a registry that never wants it is closed.
func TestContentThatIsNotWantedIsClosed(t *testing.T) {
	f := newFar(t)
	f.fail(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == http.MethodPut && blurt(w, "403 Forbidden")
	})
	b := random(4, large).blob()
	content, closed := b.Open, make(chan struct{})
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		rc, err := content(ctx)
		return closer{rc, closed}, err
	}
	if _, err := f.destination(t, "a", "1").PutBlob(t.Context(), b); !errors.Is(err, oci.ErrDenied) {
		t.Errorf("got %v", err)
	}
	select {
	case <-closed:
	default:
		t.Error("it is still open")
	}
}

type closer struct {
	io.ReadCloser
	closed chan struct{}
}

func (c closer) Close() error {
	close(c.closed)
	return c.ReadCloser.Close()
}
