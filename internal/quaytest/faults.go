package quaytest

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Fault is what goes wrong with one request. The zero value is nothing.
type Fault struct {
	Delay      time.Duration // wait so long first; the client may go away meanwhile
	Reset      bool          // reset the connection without an answer
	Status     int           // answer this status, in nginx's HTML, and do nothing
	RetryAfter string        // that header, of a Status
	CutAfter   int64         // break the connection after so many bytes of the body; 0: never
}

// Faults breaks the share rate (0 to 1) of requests, by turns with a reset and
// with a 503, always before anything was done. The choice depends on seed, on
// method and path and on how many such requests came before, not on the order
// in which different requests arrive.
func Faults(seed uint64, rate float64) func(*http.Request) Fault {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(r *http.Request) Fault {
		path := r.URL.Path
		if i := strings.Index(path, "/blobs/uploads/"); i >= 0 { // the session's name is random
			path = path[:i] + "/blobs/uploads/?" + r.URL.Query().Get("digest")
		}
		key := r.Method + " " + path
		mu.Lock()
		n := seen[key]
		seen[key]++
		mu.Unlock()
		h := fnv.New64a()
		fmt.Fprintf(h, "%d %s %d", seed, key, n)
		x := mix(h.Sum64())
		switch {
		case float64(x>>11)/(1<<53) >= rate:
			return Fault{}
		case x&1 == 0:
			return Fault{Reset: true}
		}
		return Fault{Status: http.StatusServiceUnavailable}
	}
}

// mix spreads FNV's bits (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// failed acts out f; it reports whether the request is answered. w is what
// further answers must go to.
func (f Fault) failed(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, bool) {
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
		}
	}
	switch {
	case f.Reset:
		reset(w)
	case f.Status != 0:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		writeHTML(w, f.Status)
		return w, true
	case f.CutAfter > 0:
		return &cutter{w, f.CutAfter}, false
	}
	return w, false
}

// reset closes the connection so that the client sees a reset, where it is
// HTTP/1; on HTTP/2 the stream is reset.
func reset(w http.ResponseWriter) {
	if h, ok := w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			raw := conn
			if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
				raw = t.NetConn()
			}
			if tcp, ok := raw.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // then it is closed with FIN instead
			}
			_ = raw.Close() // there is nobody to tell
		}
	}
	panic(http.ErrAbortHandler)
}

// A cutter breaks the connection after left bytes of the body.
type cutter struct {
	http.ResponseWriter
	left int64
}

func (c *cutter) Write(p []byte) (int, error) {
	if int64(len(p)) < c.left {
		n, err := c.ResponseWriter.Write(p)
		c.left -= int64(n)
		return n, err
	}
	_, _ = c.ResponseWriter.Write(p[:c.left]) // it breaks anyway
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// writeHTML answers as nginx does.
func writeHTML(w http.ResponseWriter, status int) {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html>\r\n<head><title>%[1]s</title></head>\r\n<body>\r\n<center><h1>%[1]s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n", text)
}
