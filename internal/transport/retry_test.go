package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// refuse cuts the connection of a request without an answer.
func refuse(t *testing.T, w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

func TestWhatIsSentAgain(t *testing.T) {
	const reset = 0
	tests := []struct {
		name, method, path, body string
		fault                    int // status, or reset
		again                    bool
	}{
		{"GET 503", "GET", "/v2/a/manifests/x", "", 503, true},
		{"GET 429", "GET", "/v2/a/tags/list", "", 429, true},
		{"GET 408", "GET", "/v2/a/blobs/x", "", 408, true},
		{"HEAD 500", "HEAD", "/v2/a/blobs/x", "", 500, true},
		{"GET reset", "GET", "/v2/a/blobs/x", "", reset, true},
		{"GET 501", "GET", "/v2/a/blobs/x", "", 501, false},
		{"GET 400", "GET", "/v2/a/blobs/x", "", 400, false},
		{"GET 404", "GET", "/v2/a/blobs/x", "", 404, false},
		{"GET 405", "GET", "/v2/a/blobs/x", "", 405, false},
		{"API GET 502", "GET", "/api/v1/repository", "", 502, true},
		{"API PUT 503 is a state", "PUT", "/api/v1/repository/a/b/tag/x", "{}", 503, false},
		{"API PUT 429", "PUT", "/api/v1/repository/a/b/tag/x", "{}", 429, true},
		{"API DELETE 429", "DELETE", "/api/v1/repository/a/b/tag/x", "", 429, true},
		{"API DELETE 500", "DELETE", "/api/v1/repository/a/b", "", 500, false},
		{"API POST reset", "POST", "/api/v1/repository", "{}", reset, false},
		{"manifest PUT 500", "PUT", "/v2/a/manifests/x", "{}", 500, true},
		{"manifest PUT reset", "PUT", "/v2/a/manifests/x", "{}", reset, true},
		{"manifest DELETE 503", "DELETE", "/v2/a/manifests/x", "", 503, true},
		{"upload start 503", "POST", "/v2/a/blobs/uploads/", "", 503, true},
		{"upload start 429", "POST", "/v2/a/blobs/uploads/?mount=x&from=b", "", 429, true},
		{"upload start reset", "POST", "/v2/a/blobs/uploads/", "", reset, true},
		{"upload start 500", "POST", "/v2/a/blobs/uploads/", "", 500, false},
		{"upload in one request", "POST", "/v2/a/blobs/uploads/?digest=x", "data", 503, false},
		{"upload PATCH 503", "PATCH", "/v2/a/blobs/uploads/1", "data", 503, false},
		{"upload PATCH reset", "PATCH", "/v2/a/blobs/uploads/1", "data", reset, false},
		{"upload PUT 500", "PUT", "/v2/a/blobs/uploads/1?digest=x", "data", 500, false},
		{"upload DELETE 500", "DELETE", "/v2/a/blobs/uploads/1", "", 500, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
				raw, err := io.ReadAll(r.Body)
				if err != nil || string(raw) != tt.body {
					t.Errorf("body %d: got %q, %v", n, raw, err)
				}
				switch {
				case n > 1:
				case tt.fault == reset:
					refuse(t, w)
				default:
					w.WriteHeader(tt.fault)
				}
			})
			tr := newTest(t, Options{})
			status, _, err := try(tr.Client(), tt.method, s.URL+tt.path, tt.body)
			if tt.again && (err != nil || status != 200) {
				t.Errorf("got %d, %v; want 200 from the second attempt", status, err)
			}
			if n := len(s.all("/")); (n == 2) != tt.again {
				t.Errorf("got %d requests, again=%v", n, tt.again)
			}
			if n := tr.Stats().Sum().Retries; (n == 1) != tt.again {
				t.Errorf("counted %d retries, again=%v", n, tt.again)
			}
		})
	}
}

// A49: what is busy four times in a row is an error that has the status and what was
// asked.
func TestLastAnswerIsTheError(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(503) })
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v2/a/manifests/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newTest(t, Options{}).Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	e, ok := errors.AsType[*StatusError](ResponseError(resp))
	if !ok || e.Status != 503 || e.Host != hostOf(t, s.URL) || e.Path != "/v2/a/manifests/x" {
		t.Errorf("got %+v", e)
	}
	if n := len(s.all("/")); n != 4 {
		t.Errorf("%d attempts, want 4", n)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(503) })
	tr := newTest(t, Options{})
	get := func() int {
		before := len(s.all("/"))
		if status, _ := fetch(t, tr.Client(), "GET", s.URL+"/v2/a/manifests/x"); status != 503 {
			t.Errorf("got %d, want the last answer", status)
		}
		return len(s.all("/")) - before
	}
	for range giveUp {
		if n := get(); n != 1+defaultRetries {
			t.Errorf("got %d attempts, want %d", n, 1+defaultRetries)
		}
	}
	if n := get(); n != 1 {
		t.Errorf("a host that is down got %d attempts, want 1", n)
	}
	none := newTest(t, Options{Retries: -1})
	before := len(s.all("/"))
	fetch(t, none.Client(), "GET", s.URL+"/v2/a/manifests/x")
	if n := len(s.all("/")) - before; n != 1 {
		t.Errorf("without retries: got %d attempts, want 1", n)
	}
}

func TestTruncatedAnswerIsAskedForAgain(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
		w.Header().Set("Content-Length", "10")
		if n == 1 {
			fmt.Fprint(w, "01234")
			w.(http.Flusher).Flush()
			refuse(t, w)
			return
		}
		fmt.Fprint(w, "0123456789")
	})
	if _, text := fetch(t, newTest(t, Options{}).Client(), "GET", s.URL+"/api/v1/repository"); text != "0123456789" {
		t.Errorf("got %q", text)
	}
}

// A49: it is waited for as long as a server asks for, be it by 429 or by 503.
func TestRetryAfterHoldsTheHostBack(t *testing.T) {
	seconds := func() string { return "1" }
	for name, tt := range map[string]struct {
		status int
		value  func() string
	}{
		"429":     {http.StatusTooManyRequests, seconds},
		"seconds": {http.StatusServiceUnavailable, seconds},
		"date":    {http.StatusServiceUnavailable, func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
				if n == 1 {
					w.Header().Set("Retry-After", tt.value())
					w.WriteHeader(tt.status)
				}
			})
			tr := newTest(t, Options{})
			// The upload's answer comes back to its sender and still counts for all.
			if status, _, err := try(tr.Client(), "PATCH", s.URL+"/v2/a/blobs/uploads/1", "data"); err != nil || status != tt.status {
				t.Fatalf("got %d, %v", status, err)
			}
			start := time.Now()
			fetch(t, tr.Client(), "GET", s.URL+"/v2/other/manifests/x")
			if d := time.Since(start); d < 900*time.Millisecond {
				t.Errorf("another request to the host was sent after %v, want 1 s", d)
			}
			if sum := tr.Stats().Sum(); sum.Waits != 1 || sum.Waited < 900*time.Millisecond {
				t.Errorf("got %+v, want one wait of a second", sum)
			}
		})
	}
}

func TestPauseEndsWithTheContext(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(429)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v2/a/manifests/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newTest(t, Options{}).Client().Do(req)
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	tests := []struct {
		name, value, date string
		want              time.Duration
		capped            bool
	}{
		{"none", "", "", 0, false},
		{"seconds", "7", "", 7 * time.Second, false},
		{"zero", "0", "", 0, false},
		{"negative", "-5", "", 0, false},
		{"absurd", "99999999", "", maxRetryAfter, true},
		{"beyond any number", "99999999999999999999999999", "", maxRetryAfter, true},
		{"fraction", "1.5", "", 0, false},
		{"words", "soon", "", 0, false},
		{"date", at(30 * time.Second), "", 30 * time.Second, false},
		{"date in the past", at(-time.Hour), "", 0, false},
		{"date far away", at(time.Hour), "", maxRetryAfter, true},
		{"date by the server's clock", at(time.Hour + 10*time.Second), at(time.Hour), 10 * time.Second, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{"Retry-After": {tt.value}, "Date": {tt.date}}
			if got, capped := retryAfter(h, now); got != tt.want || capped != tt.capped {
				t.Errorf("got %v %v, want %v %v", got, capped, tt.want, tt.capped)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for attempt, most := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		most *= time.Second
		for range 50 {
			if d := Backoff(attempt); d > most || d < most/2 {
				t.Fatalf("attempt %d: got %v, want %v to %v", attempt, d, most/2, most)
			}
		}
	}
	if d := Backoff(1000); d > backoffCap {
		t.Errorf("got %v", d)
	}
}

func TestStalledBodyFails(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "01234")
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	tr := newTest(t, Options{})
	tr.idle = 50 * time.Millisecond
	_, text, err := try(tr.Client(), "GET", s.URL+"/v2/a/blobs/x", "")
	if text != "01234" || !errors.Is(err, errStalled) || !Retryable(nil, err) {
		t.Errorf("got %q, %v; want half of it and a stall that is worth another attempt", text, err)
	}
}

func TestConnectionsSurviveErrors(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
		if n%2 == 1 {
			w.WriteHeader(500)
			fmt.Fprint(w, strings.Repeat("x", 60<<10))
		}
	})
	tr := newTest(t, Options{})
	for range 10 {
		fetch(t, tr.Client(), "GET", s.URL+"/v2/a/manifests/x")
	}
	resp, err := tr.Client().Get(s.URL + "/v2/a/blobs/x") // closed without a look
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	fetch(t, tr.Client(), "GET", s.URL+"/v2/a/manifests/x")
	if sum := tr.Stats().Sum(); sum.Connections != 1 {
		t.Errorf("got %d connections for %v, want 1", sum.Connections, sum.Requests)
	}
}

func TestStats(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	tr := newTest(t, Options{})
	for _, path := range []string{"/api/v1/repository", "/v2/a/b/manifests/x", "/v2/a/b/blobs/sha256:0", "/v2/a/b/tags/list", "/v2/", "/other"} {
		fetch(t, tr.Client(), "GET", s.URL+path)
	}
	if _, _, err := try(tr.Client(), "PATCH", s.URL+"/v2/a/b/blobs/uploads/1", "x"); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(tr.Stats().Hosts[hostOf(t, s.URL)].Requests)
	want := fmt.Sprint(map[Kind]int64{API: 1, Manifest: 1, Blob: 1, Upload: 1, Other: 3})
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// net's timeout of a dial matches context.DeadlineExceeded, and is the
// network's all the same.
func TestDialTimeoutIsWorthAnotherAttempt(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	_, err := (&net.Dialer{Timeout: time.Nanosecond}).Dial("tcp", hostOf(t, s.URL))
	if !errors.Is(err, context.DeadlineExceeded) || !Retryable(nil, err) {
		t.Errorf("%v: retryable is %v", err, Retryable(nil, err))
	}
	if Retryable(nil, context.DeadlineExceeded) {
		t.Error("the caller's own deadline is worth another attempt")
	}
}

// A 429 that names no time is waited for longer each time.
func Test429BacksOff(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
		if n < 4 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	tr := newTest(t, Options{RateLimit: new(float64)}) // or the limiter would wait, too
	tr.base = 40 * time.Millisecond
	start := time.Now()
	if status, _ := fetch(t, tr.Client(), "GET", s.URL+"/v2/a/manifests/x"); status != 200 {
		t.Fatalf("got %d", status)
	}
	// At least half of 40, 80 and 160 ms.
	if d := time.Since(start); d < 140*time.Millisecond {
		t.Errorf("four attempts took %v", d)
	}
}

// A server that drips the body of an error may not hold its reader.
func TestDrippingErrorEnds(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.WriteHeader(http.StatusNotFound)
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	})
	tr := newTest(t, Options{})
	tr.idle = 100 * time.Millisecond
	for _, end := range []func(*http.Response){
		func(resp *http.Response) { resp.Body.Close() },
		func(resp *http.Response) { _ = ResponseError(resp); resp.Body.Close() },
	} {
		resp, err := tr.Client().Get(s.URL + "/v2/a/blobs/x")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		end(resp)
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("took %v", d)
		}
	}
}
