package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	// gain is how many bytes an attempt must bring to count as progress. An edge
	// that cuts every answer at a few MiB is worth going on with for ever.
	gain = 64 << 10
	// fruitless is how many attempts in a row may bring no progress.
	fruitless = 4
)

// Fetch implements [oci.Source]. A body that breaks off, or that the transport
// gave up because nothing came, goes on from the byte where it broke, by a new
// request to the registry: an address that it redirected to is not used twice. Content of foreign layers is asked
// for here and nowhere else: the descriptor's urls are its author's, who may be
// anyone. Errors match [oci.ErrNotFound], [oci.ErrDenied] and, from the
// reader, [oci.ErrDigestMismatch].
func (r *repo) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	if err := oci.ValidDigest(d.Digest); err != nil {
		return nil, oci.Wrap(err, "fetch blob", r.ref.Name(), oci.Descriptor{})
	}
	b := &body{ctx: ctx, repo: r, d: d, size: d.Size}
	if err := b.open(); err != nil {
		if errors.Is(err, oci.ErrNotFound) && len(d.URLs) > 0 {
			err = fmt.Errorf("%w; it is a foreign layer, whose urls are not followed", err)
		}
		return nil, oci.Wrap(err, "fetch blob", r.ref.Name(), d)
	}
	return named{oci.Verify(b, d), r.ref.Name(), d}, nil
}

// named gives the errors of a reader their place.
type named struct {
	io.ReadCloser
	name string
	d    oci.Descriptor
}

func (n named) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = oci.Wrap(err, "fetch blob", n.name, n.d)
	}
	return k, err
}

// Checks makes it [oci.Checked].
func (n named) Checks(d oci.Digest) bool { return oci.Checks(n.ReadCloser, d) }

// A body reads one blob over as many requests as it takes. It gives each byte
// once and in order; whether they are the right ones is for who hashes them.
type body struct {
	ctx  context.Context // of Fetch: it rules the reads too
	repo *repo
	d    oci.Descriptor
	size int64 // -1 until an answer says it

	rc     io.ReadCloser // of the present request
	offset int64         // bytes given
	base   int64         // offset when tries was 0
	tries  int           // attempts since then
}

// open asks for the bytes from offset on.
func (b *body) open() error {
	b.rc = http.NoBody
	req, err := b.repo.request(b.ctx, http.MethodGet, b.repo.url("/blobs/"+string(b.d.Digest)), b.repo.pull())
	if err != nil {
		return err
	}
	// Quay's nginx compresses octet streams for who says nothing, which takes
	// length and ranges away.
	req.Header.Set("Accept-Encoding", "identity")
	if b.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.offset))
	}
	resp, err := b.repo.send(req)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		err = b.take(resp, 0)
	case http.StatusPartialContent:
		err = b.take(resp, b.offset)
	default:
		return answered(resp)
	}
	if err != nil {
		_ = b.rc.Close() // why is known
	}
	return err
}

// take goes on with the body of resp, which begins at byte from of the blob.
func (b *body) take(resp *http.Response, from int64) error {
	b.rc = resp.Body
	total := resp.ContentLength
	if resp.StatusCode == http.StatusPartialContent {
		var first, last int64
		at := resp.Header.Get("Content-Range")
		if n, err := fmt.Sscanf(at, "bytes %d-%d/%d", &first, &last, &total); n != 3 {
			if n, _ := fmt.Sscanf(at, "bytes %d-%d/*", &first, &last); n != 2 {
				return fmt.Errorf("%w: Content-Range %q: %w", oci.ErrInvalid, at, err)
			}
			total = -1
		}
		if first != from || last < first || total >= 0 && last >= total {
			return fmt.Errorf("%w: asked for the bytes from %d on, got Content-Range %q", oci.ErrInvalid, from, at)
		}
	}
	if total >= 0 && b.size >= 0 && total != b.size {
		return fmt.Errorf("%w: %d bytes, its descriptor says %d", oci.ErrDigestMismatch, total, b.size)
	}
	if b.size < 0 {
		b.size = total
	}
	if from < b.offset { // the server knows no ranges: what was given comes again
		_, err := io.CopyN(io.Discard, b.rc, b.offset-from)
		return err
	}
	return nil
}

func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := b.rc.Read(p)
		b.offset += int64(n)
		if err == io.EOF && b.offset < b.size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		if err := b.resume(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// resume opens the rest after cause ended a request. It gives up with the last
// cause when attempts bring no progress, and at once on an answer that another
// attempt wouldn't change.
func (b *body) resume(cause error) error {
	for {
		_ = b.rc.Close() // it has failed already
		if b.ctx.Err() != nil {
			return context.Cause(b.ctx)
		}
		if b.offset-b.base >= gain {
			b.base, b.tries = b.offset, 0
		}
		if b.tries++; b.tries > fruitless {
			return fmt.Errorf("broke off at byte %d, %d attempts in a row: %w", b.offset, b.tries, cause)
		}
		if err := pause(b.ctx, b.tries, cause); err != nil {
			return err
		}
		err := b.open()
		if err == nil || !retryable(err) {
			return err
		}
		cause = err
	}
}

func (b *body) Close() error { return b.rc.Close() }
