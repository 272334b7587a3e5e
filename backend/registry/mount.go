package registry

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// Mount implements [oci.Mounter]. A registry that won't, or in the repository
// itself can't because the blob isn't there, answers with an upload session,
// which the next PutBlob of d uses. Whatever else it says against it isn't final
// either: if the blob can't be put, the upload tells.
//
// Where the registry answers as if it knew no mounts, "is it there" is asked by
// HEAD, then and from then on.
func (d *destination) Mount(ctx context.Context, desc oci.Descriptor, fromRepo string) (bool, error) {
	if err := oci.ValidDigest(desc.Digest); err != nil {
		return false, oci.Wrap(err, "mount blob", d.ref.Name(), oci.Descriptor{})
	}
	if !oci.ValidRepository(fromRepo) {
		return false, oci.Wrap(fmt.Errorf("%w: %q is no repository", oci.ErrInvalid, fromRepo), "mount blob", d.ref.Name(), desc)
	}
	from := d.sibling(fromRepo)
	own := from.path == d.path
	if own && d.target.oddMounts.Load() {
		return d.Has(ctx, desc)
	}
	for try := 1; ; try++ {
		mounted, odd, err := d.mount(ctx, desc.Digest, from)
		if odd && own {
			d.target.oddMounts.Store(true)
			return d.Has(ctx, desc)
		}
		if err == nil || ctx.Err() != nil || try == uploadAttempts || !retryable(err) {
			return mounted, oci.Wrap(err, "mount blob", d.ref.Name(), desc)
		}
		if err := pause(ctx, try, err); err != nil {
			return false, oci.Wrap(err, "mount blob", d.ref.Name(), desc)
		}
	}
}

// mount makes one attempt. odd says that the registry doesn't seem to know mounts.
func (d *destination) mount(ctx context.Context, dgst oci.Digest, from *repo) (mounted, odd bool, err error) {
	if err := d.beforeWrite(ctx); err != nil {
		return false, false, err
	}
	query := url.Values{"mount": {string(dgst)}, "from": {from.path}}
	resp, err := d.do(ctx, http.MethodPost, d.url("/blobs/uploads/?"+query.Encode()), d.push(), from.pull())
	if err != nil {
		return false, false, err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		finish(resp)
		return true, false, nil
	case http.StatusAccepted:
		finish(resp)
		session, err := location(resp)
		if err != nil {
			return false, false, err
		}
		if before := d.keepSession(dgst, session); before != nil {
			d.cancel(ctx, before)
		}
		return false, false, nil
	}
	err = answered(resp)
	switch {
	case retryable(err):
		return false, false, err
	case is(err, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound):
		// Not for this caller, no such repository, or no such blob in it (it
		// should have answered 202): the upload tells.
		return false, false, nil
	}
	return false, true, nil
}

// keepSession keeps the session of a refused mount of dgst for PutBlob, and
// gives the one that it takes the place of.
func (d *destination) keepSession(dgst oci.Digest, session *url.URL) (before *url.URL) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before = d.sessions[dgst]
	d.sessions[dgst] = session
	return before
}

// keptSession takes the session of a refused mount of dgst, nil if there is none.
func (d *destination) keptSession(dgst oci.Digest) *url.URL {
	d.mu.Lock()
	defer d.mu.Unlock()
	session := d.sessions[dgst]
	delete(d.sessions, dgst)
	return session
}

// Sibling implements [oci.Mounter].
func (d *destination) Sibling(repository string) oci.Source { return source{d.sibling(repository)} }

// Close implements [oci.Destination]: sessions that nothing was sent in are
// cancelled, all of them within the time that one may take.
func (d *destination) Close() error {
	d.mu.Lock()
	sessions := slices.Collect(maps.Values(d.sessions))
	clear(d.sessions)
	d.mu.Unlock()
	if len(sessions) == 0 {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), cancelWithin)
	defer stop()
	var wg sync.WaitGroup
	for part := range slices.Chunk(sessions, (len(sessions)+cancels-1)/cancels) {
		wg.Go(func() {
			for _, s := range part {
				d.end(ctx, s)
			}
		})
	}
	wg.Wait()
	return nil
}

// cancels is how many sessions are cancelled at once.
const cancels = 4
