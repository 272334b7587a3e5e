package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/quaymaster/quaymaster/internal/engine"
	"github.com/quaymaster/quaymaster/oci"
)

// images is the one image of a URI.
type images struct{ *image }

// Discover gives the image without asking the daemon.
func (i *images) Discover(context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) { yield(oci.Item{Ref: i.name.ref, Bytes: -1}, nil) }
}

// Listing implements [oci.Lister].
func (i *images) Listing() oci.Listing { return oci.Listing{Found: 1, Done: true, Repositories: 1} }

func (i *images) Bulk() bool { return false }

func (i *images) Source(context.Context, oci.Item) (oci.Source, error) { return i.image, nil }

func (i *images) Close() error { return errors.Join(i.forget(), i.client.Close()) }

// An image is one of a daemon as a source. It is safe for concurrent use.
type image struct {
	client *engine.Client
	name   name

	mu   sync.Mutex // held while it is saved
	kept *kept      // nil: not yet
}

// String names image and daemon in errors.
func (i *image) String() string { return i.name.ask + " of daemon " + i.client.String() }

func (i *image) wrap(err error, op string, d oci.Descriptor) error {
	return wrap(err, op, i.name, i.client, d)
}

// wrap lets err name daemon and image. One that names the daemon alone keeps its
// words.
func wrap(err error, op string, n name, c *engine.Client, d oci.Descriptor) error {
	e, ok := errors.AsType[*oci.Error](err)
	switch {
	case !ok:
		return oci.Wrap(err, op, n.ask+" of daemon "+c.String(), d)
	case e.Ref == c.String():
		return &oci.Error{Op: op, Ref: n.ask, Desc: d, Err: err}
	}
	return err
}

// own returns an error matching [oci.ErrNotFound] unless ref, a tag or a digest,
// is what the URI says, or "".
func (i *image) own(ref string) error {
	if ref == "" || ref == i.name.ref.Tag || ref == string(i.name.ref.Digest) {
		return nil
	}
	return i.wrap(fmt.Errorf("%w: it is no name of this image", oci.ErrNotFound), fmt.Sprintf("look up %.200q in", ref), oci.Descriptor{})
}

// Resolve gives the manifest that the daemon keeps (Docker's containerd store),
// else one that is made up. The image is saved for it, once.
func (i *image) Resolve(ctx context.Context, ref string) (oci.Descriptor, []byte, error) {
	k, err := i.keep(ctx)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	if i.own(ref) == nil {
		ref = ""
	}
	return k.source.Resolve(ctx, ref)
}

// Head is Resolve without the bytes.
func (i *image) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := i.Resolve(ctx, ref)
	return d, err
}

// Fetch opens the config, or a layer. The image is saved for it, once.
func (i *image) Fetch(ctx context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	k, err := i.keep(ctx)
	if err != nil {
		return nil, err
	}
	return k.source.Fetch(ctx, d)
}
