package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	uploadAttempts = 5 // at one blob
	rereads        = 2 // further attempts at content that proved to be wrong
	cancelWithin   = 2 * time.Second
)

// PutBlob implements [oci.Destination]. Where digest and size are known it takes
// two requests, POST and PUT; else three, with one chunked PATCH between them.
//
// What fails and could succeed starts again from the POST, at most 5 times,
// with a new pass over the content; blobs up to 1 MiB are read once and sent
// from memory, and before others are read the registry is asked whether it takes
// them, while they are opened. An end that leaves open whether the registry has the blob is
// settled by a HEAD. Errors match [oci.ErrDenied], and [oci.ErrDigestMismatch]
// where the content isn't what b.Desc says.
func (d *destination) PutBlob(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	u := &upload{destination: d, blob: b, learn: b.Desc.Digest == "" || b.Desc.Size < 0}
	if b.Desc.Digest != "" {
		if err := oci.ValidDigest(b.Desc.Digest); err != nil {
			return oci.Descriptor{}, oci.Wrap(err, "put blob", d.ref.Name(), oci.Descriptor{})
		}
	}
	defer func() { u.forget() }()
	var last error
	for try := 1; ; try++ {
		desc, err := u.attempt(ctx)
		if err == nil {
			return desc, nil
		}
		if last != nil && errors.Is(err, oci.ErrAbandoned) {
			err = fmt.Errorf("%w; %w", last, err) // what could be read once only is wanted again because of last
		}
		if ctx.Err() != nil || try == uploadAttempts || !u.again(err) {
			return oci.Descriptor{}, oci.Wrap(err, "put blob", d.ref.Name(), b.Desc)
		}
		d.log.Debug("upload starts again", "ref", d.ref.Name(), "digest", b.Desc.Digest, "attempt", try, "error", err)
		last = err
		if err := pause(ctx, try, err); err != nil {
			return oci.Descriptor{}, oci.Wrap(err, "put blob", d.ref.Name(), b.Desc)
		}
	}
}

// An upload is the way of one blob into one repository.
type upload struct {
	*destination
	blob    oci.Blob
	learn   bool     // digest or size is known only at the end
	session *url.URL // that is open at the registry
	release func()   // of blob's memory, nil if it has none
	ahead   *opening // content that was opened and not wanted yet; nil for none

	wrong, denied int  // attempts that ended so
	broke         bool // an attempt that sent content without a question
}

// asks reports whether the registry is to be asked ("Expect: 100-continue")
// before size bytes are sent, -1 if nobody knows how many. To ask costs a round
// trip; not to ask would cost another pass over what isn't in memory.
//
// What was refused without a question may have met a connection that was closed
// before its answer could be read; so the next attempt asks.
func (u *upload) asks(size int64) bool {
	return (size < 0 || size > smallBlob || u.broke) && !u.target.plainBodies.Load()
}

// A contentError is a failure of the blob's own content.
type contentError struct{ error }

func (e *contentError) Unwrap() error { return e.error }

// again reports whether another attempt makes sense after err.
func (u *upload) again(err error) bool {
	if _, own := errors.AsType[*contentError](err); own {
		u.wrong++ // other failures of content were retried by who reads it
		return errors.Is(err, oci.ErrDigestMismatch) && u.wrong <= rereads
	}
	_, inSession := errors.AsType[*sessionError](err)
	switch {
	case is(err, http.StatusUnauthorized): // the token ended while content was sent
		u.denied++
		return inSession && u.denied == 1
	case is(err, http.StatusNotFound, http.StatusConflict, http.StatusRequestedRangeNotSatisfiable):
		return inSession // it is lost, a new one isn't
	case is(err, http.StatusExpectationFailed):
		return !u.target.plainBodies.Swap(true)
	}
	return errors.Is(err, errShort) || retryable(err)
}

// A sessionError is a failure of an open upload, not of the repository.
type sessionError struct{ error }

func (e *sessionError) Unwrap() error { return e.error }

// errShort means that the registry lost a part of what was sent.
var errShort = errors.New("the registry has less than it was sent")

// attempt makes one attempt and leaves no session behind.
func (u *upload) attempt(ctx context.Context) (oci.Descriptor, error) {
	if small := !u.learn && u.blob.Desc.Size <= smallBlob; small && u.release == nil {
		blob, release, err := remember(ctx, u.blob)
		if err != nil {
			return oci.Descriptor{}, &contentError{err}
		}
		u.blob, u.release = blob, release
	}
	var err error
	if u.session = u.keptSession(u.blob.Desc.Digest); u.session == nil {
		if u.session, err = u.start(ctx); err != nil {
			return oci.Descriptor{}, err
		}
	}
	desc := u.blob.Desc
	if u.learn {
		desc, err = u.sendChunked(ctx)
	} else {
		p := newPass(ctx, u.blob, "")
		err = u.commit(ctx, p, desc)
	}
	if err != nil {
		if !is(err, http.StatusNotFound) { // what isn't known needs no end
			u.cancel(ctx, u.session)
		}
		return oci.Descriptor{}, err
	}
	return desc, nil
}

func (u *upload) forget() {
	if u.ahead != nil {
		u.ahead.close()
	}
	if u.release != nil {
		u.release()
	}
}

// start opens an upload session.
func (d *destination) start(ctx context.Context) (*url.URL, error) {
	if err := d.beforeWrite(ctx); err != nil {
		return nil, err
	}
	resp, err := d.do(ctx, http.MethodPost, d.url("/blobs/uploads/"), d.push())
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusAccepted {
		return nil, answered(resp)
	}
	finish(resp)
	return location(resp)
}

// commit sends p, or nothing if it is nil, as what completes the session's
// blob, desc.
func (u *upload) commit(ctx context.Context, p *pass, desc oci.Descriptor) error {
	at := *u.session
	// Appended and not set: the rest of the query is the registry's, and stays
	// as it wrote it.
	if at.RawQuery != "" {
		at.RawQuery += "&"
	}
	at.RawQuery += "digest=" + url.QueryEscape(string(desc.Digest))
	resp, all, err := u.transfer(ctx, http.MethodPut, &at, p, desc.Size)
	if err == nil {
		got := resp.Header.Get("Docker-Content-Digest")
		if got != "" && got != string(desc.Digest) {
			return fmt.Errorf("%w: the registry took the bytes of %s for %s", oci.ErrDigestMismatch, desc.Digest, got)
		}
		return nil
	}
	if e := status(err); all && (e == nil || e.Status >= 500) && ctx.Err() == nil {
		if there, headErr := u.hasBlob(ctx, desc); headErr == nil && there {
			return nil // the work was done, only its answer is lost
		}
	}
	return err
}

// sendChunked sends content whose digest or size is known only afterwards.
func (u *upload) sendChunked(ctx context.Context) (oci.Descriptor, error) {
	desc := u.blob.Desc
	algorithm := digest.Canonical
	if desc.Digest != "" {
		algorithm = desc.Digest.Algorithm()
	}
	p := newPass(ctx, u.blob, algorithm)
	resp, _, err := u.transfer(ctx, http.MethodPatch, u.session, p, desc.Size)
	if err != nil {
		return desc, err
	}
	next, err := location(resp)
	if err != nil {
		return desc, err
	}
	u.session = next
	if _, last, ok := strings.Cut(resp.Header.Get("Range"), "-"); ok {
		if got, err := strconv.ParseInt(last, 10, 64); err == nil && p.n > 0 && got+1 < p.n {
			return desc, fmt.Errorf("%w: %d of %d bytes", errShort, got+1, p.n)
		}
	}
	got := digest.NewDigest(algorithm, p.hash)
	if desc.Digest != "" && got != desc.Digest {
		return desc, &contentError{fmt.Errorf("%w: the %d bytes are %s", oci.ErrDigestMismatch, p.n, got)}
	}
	desc.Digest, desc.Size = got, p.n
	return desc, u.commit(ctx, nil, desc)
}

// transfer makes one request of the session with p's content, size bytes or -1,
// as its body. The answer, if it is a success, comes with its body read. Which
// success is not looked at: registries differ. all says that the registry may have all of the content.
func (u *upload) transfer(ctx context.Context, method string, at *url.URL, p *pass, size int64) (resp *http.Response, all bool, err error) {
	ctx = u.away(ctx)
	if u.release != nil {
		ctx = transport.WithHeld(ctx)
	}
	req, err := u.request(ctx, method, at.String(), u.push())
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	asked := false
	if all = p == nil || size == 0; !all {
		// Without GetBody: nobody but u sends content again.
		req.Body, req.ContentLength = p, size
		if asked = u.asks(size); asked {
			req.Header.Set("Expect", "100-continue")
			req = p.watch(req)
			if u.ahead == nil && !u.learn {
				u.ahead = open(p.parent, u.blob)
			}
		}
		p.ahead = u.ahead
	}
	resp, err = u.send(req)
	if err == nil && resp.StatusCode/100 != 2 {
		err = answered(resp)
	} else if err == nil {
		finish(resp)
	}
	if p != nil {
		// Only now: a pass that ends early costs the connection, and with it an
		// answer that isn't read yet.
		_, sent, own := p.end()
		u.ahead = p.unread()
		if own != nil {
			return nil, false, &contentError{own}
		}
		all = all || sent
	}
	if err != nil {
		if !asked && req.Body != nil && retryable(err) {
			u.broke = true
		}
		return nil, all, &sessionError{err}
	}
	return resp, all, nil
}

// away says that the address of a request was given by the registry, so that
// the transport treats other hosts as strangers.
func (d *destination) away(ctx context.Context) context.Context {
	return transport.WithOrigin(ctx, &url.URL{Scheme: d.scheme, Host: d.host})
}

// cancel ends a session that will not be used. It is a courtesy: registries
// forget sessions in time.
func (d *destination) cancel(ctx context.Context, session *url.URL) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelWithin)
	defer stop()
	d.end(ctx, session)
}

func (d *destination) end(ctx context.Context, session *url.URL) {
	if resp, err := d.do(d.away(ctx), http.MethodDelete, session.String(), d.push()); err == nil {
		finish(resp)
	}
}
