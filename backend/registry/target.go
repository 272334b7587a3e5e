package registry

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// A target is a registry that is written to.
type target struct {
	host   string
	env    backend.Env
	ledger ledger

	compression string // as in [oci.Traits]

	// plainBodies is set once the registry refused to be asked by Expect.
	plainBodies atomic.Bool
	// oddMounts is set once the registry answered a mount as if it knew none.
	oddMounts atomic.Bool
}

var (
	_ oci.Target      = (*target)(nil)
	_ oci.Creator     = (*target)(nil)
	_ oci.Destination = (*destination)(nil)
	_ oci.Mounter     = (*destination)(nil)
	_ oci.Foreseer    = (*destination)(nil)
)

// Traits implements [oci.Target].
func (t *target) Traits() oci.Traits {
	return oci.Traits{Many: true, Index: true, Ahead: true, Compression: t.compression}
}

// Image implements [oci.Target]. name is the complete reference; without a tag
// the image is put by its digest alone. No request is made yet, but that the
// repository will be read is noted for the next token.
func (t *target) Image(_ context.Context, name oci.Ref) (oci.Destination, error) {
	if name.Registry != t.host {
		return nil, oci.Usage(fmt.Sprintf("%s is not on %s", name, t.host))
	}
	r, err := newRepo(name, t.env)
	if err != nil {
		return nil, err
	}
	r.expect(r.pull())
	return &destination{repo: r, target: t, log: t.env.Logger(), sessions: map[oci.Digest]*url.URL{}}, nil
}

// Finish implements [oci.Target].
func (t *target) Finish(context.Context) error { return nil }

// Close implements [oci.Target]. The HTTP client is the caller's.
func (t *target) Close() error { return nil }
