package check

import (
	"context"
	"errors"
	"io"

	"github.com/quaymaster/quaymaster/oci"
)

// maxConfig is the most bytes of a config that are read: 4 MiB.
const maxConfig = 4 << 20

// excess is how far a blob may go beyond its descriptor's size for its digest
// to be worth computing; a body without end is given up there.
const excess = 16 << 20

// An outcome names the checks that a blob fails.
type outcome struct{ digest, size string }

var (
	ofConfig = outcome{"config-digest", "config-size"}
	ofLayer  = outcome{"blob-digest", "blob-size"}
)

// blame says what err, of fetching or reading blob d, says of the blob. It
// returns err if it says nothing of it: then nobody knows.
func (c *Checker) blame(ctx context.Context, src oci.Source, what string, d oci.Descriptor, ids outcome, err error) ([]Result, error) {
	switch {
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, oci.ErrNotFound) && len(d.URLs) > 0 && ids == ofLayer:
		return []Result{found(Info, "foreign-layer", "%s isn't there; it is a foreign one, whose addresses are not followed", what)}, nil
	case errors.Is(err, oci.ErrNotFound):
		return []Result{found(Error, "blob-missing", "%s isn't there", what)}, nil
	case errors.Is(err, oci.ErrInvalid): // a layout's file that is none
		return []Result{found(Error, "blob-missing", "%s: %v", what, err)}, nil
	case errors.Is(err, oci.ErrDigestMismatch):
		return c.measure(ctx, src, what, d, ids)
	}
	return nil, err
}

// measure reads blob d, which isn't what its descriptor says, to learn whether
// it is the size that is wrong or the bytes.
func (c *Checker) measure(ctx context.Context, src oci.Source, what string, d oci.Descriptor, ids outcome) ([]Result, error) {
	said := min(d.Size, 1<<62)
	d.Size = -1
	rc, err := src.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(rc, said+excess))
	switch {
	case errors.Is(err, oci.ErrDigestMismatch):
		return []Result{found(Error, ids.digest, "%s: the bytes have another digest", what)}, nil
	case err != nil:
		return nil, err
	case n >= said+excess:
		return []Result{found(Error, ids.size, "%s is longer than the %d bytes that the manifest says", what, said)}, nil
	case n == said: // what failed before was the transfer
		return nil, errors.New("two reads of " + string(d.Digest) + " gave different bytes")
	}
	return []Result{found(Error, ids.size, "%s has %d bytes, the manifest says %d", what, n, said)}, nil
}

// config reads the config d. nil bytes mean that results say why there are none.
func (c *Checker) config(ctx context.Context, src oci.Source, d oci.Descriptor) ([]byte, []Result, error) {
	what := "config " + short(d.Digest)
	if d.Size > maxConfig {
		return nil, []Result{found(Error, "config-valid", "%s of %d bytes: over %d", what, d.Size, maxConfig)}, nil
	}
	rc, err := src.Fetch(ctx, d)
	if err == nil {
		defer rc.Close()
		var raw []byte
		if raw, err = io.ReadAll(rc); err == nil { // it ends at d.Size
			return raw, nil, nil
		}
	}
	results, err := c.blame(ctx, src, what, d, ofConfig, err)
	return nil, results, err
}

// bytes checks digest and size of a blob that isn't looked into.
func (c *Checker) bytes(ctx context.Context, src oci.Source, what string, d oci.Descriptor) ([]Result, error) {
	f, results, err := c.read(ctx, src, what, d, false)
	if f == nil {
		return results, err
	}
	return nil, nil
}
