package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	defaultRetries = 3
	backoffBase    = time.Second
	backoffCap     = 30 * time.Second
	// maxRetryAfter caps what a server may ask us to wait.
	maxRetryAfter = 5 * time.Minute
)

// Backoff gives how long to wait before attempt+1, where the first attempt is
// 0: 1 s, doubled each time up to 30 s, less up to half of it by chance.
func Backoff(attempt int) time.Duration { return backoff(backoffBase, attempt) }

func backoff(base time.Duration, attempt int) time.Duration {
	d := backoffCap
	if attempt < 16 {
		d = min(base<<max(attempt, 0), backoffCap)
	}
	return d - rand.N(d/2+1)
}

// Retryable reports whether the outcome of a request, or an error from reading
// an answer's body, may be another one the next time. Whether sending again is
// safe is for the caller to know. resp may be nil.
func Retryable(resp *http.Response, err error) bool {
	if err != nil {
		return retryableError(err)
	}
	if resp == nil {
		return false
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func retryableError(err error) bool {
	var (
		dns     *net.DNSError
		op      *net.OpError
		status  *StatusError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, new(*finalError)), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &status):
		return Retryable(&http.Response{StatusCode: status.Status}, nil)
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(x509.UnknownAuthorityError)),
		errors.As(err, new(x509.HostnameError)), errors.As(err, new(x509.CertificateInvalidError)),
		errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.Is(err, errStalled), errors.As(err, &op) && op.Timeout():
		return true
	case errors.Is(err, context.DeadlineExceeded): // the caller's; net's own match it too
		return false
	case errors.As(err, &timeout) && timeout.Timeout():
		return true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNREFUSED),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ECONNABORTED):
		return true
	case errors.As(err, &op):
		return op.Op == "read" || op.Op == "write" || op.Op == "dial"
	}
	// net/http has no types for these.
	text := err.Error()
	for _, s := range []string{"http2: ", "stream error: ", "connection error: ", "server closed idle connection", "transport connection broken", "malformed HTTP"} {
		if strings.Contains(text, s) && !strings.Contains(text, "HTTP response to HTTPS") {
			return true
		}
	}
	return false
}

// retryAfter reads a Retry-After header: seconds, or an HTTP date, which is
// taken against the server's own Date. 0 means that it says nothing usable.
// What it asks for beyond five minutes is cut, and capped says so.
func retryAfter(h http.Header, now time.Time) (d time.Duration, capped bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0, false
	}
	if digits(value) {
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter, true
		}
		return time.Duration(n) * time.Second, false
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	if d = at.Sub(now); d > maxRetryAfter {
		return maxRetryAfter, true
	}
	return max(d, 0), false
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// finalError is a refusal of ours, or a state that no further attempt changes.
type finalError struct{ text string }

func (e *finalError) Error() string { return e.text }

func final(format string, args ...any) error { return &finalError{fmt.Sprintf(format, args...)} }
