package daemon

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// Stream gives the image's parts as the daemon sends them. The config comes where
// it is met, in Docker's containerd store perhaps at the end, and there the
// manifest last, as the daemon keeps it. A layer's diffID is known beforehand
// where it is the part's name (podman, Docker from 25); Docker 20.10 doesn't tell.
//
// Every layer is checked while it is read: against its name where that is its
// digest, else against the diffIDs of the image. Errors name daemon and image; a
// stream that lacks a layer or the config is one, and so is one that is cut off.
func (i *image) Stream(ctx context.Context, ref string) iter.Seq2[oci.Blob, error] {
	return func(yield func(oci.Blob, error) bool) {
		if err := i.own(ref); err != nil {
			yield(oci.Blob{}, err)
			return
		}
		is, err := inspect(ctx, i.client, i.name)
		if err == nil {
			err = i.stream(ctx, is, func(b oci.Blob) bool { return yield(b, nil) })
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(oci.Blob{}, i.wrap(err, "read image", oci.Descriptor{}))
		}
	}
}

// errEnough ends a stream that the caller has enough of.
var errEnough = errors.New("enough")

func (i *image) stream(ctx context.Context, is *inspection, yield func(oci.Blob) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := is.save(ctx, i.client)
	if err != nil {
		return err
	}
	defer body.Close() // what is left of it isn't wanted
	s := &stream{image: i, ctx: ctx, is: is, body: body, tar: tar.NewReader(body), parts: newParts(is), yield: yield}
	for {
		h, err := s.tar.Next()
		s.turn++
		if errors.Is(err, io.EOF) {
			return s.end()
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return s.cause(err)
		}
		if err := s.member(h); err != nil {
			return err
		}
	}
}

// A stream is an image on its way.
type stream struct {
	*parts
	image *image
	ctx   context.Context // of this stream alone
	is    *inspection
	body  *savedStream
	tar   *tar.Reader
	turn  int // counts members, so that one that is past isn't read
	yield func(oci.Blob) bool
}

// cause says why reading ended with err.
func (s *stream) cause(err error) error {
	if c := context.Cause(s.ctx); c != nil {
		return c
	}
	return s.body.said(cut(err))
}

func (s *stream) give(b oci.Blob) error {
	if !s.yield(b) {
		return errEnough
	}
	return nil
}

// member looks at the member h, whose body s.tar stands at.
func (s *stream) member(h *tar.Header) error {
	if h.Typeflag != tar.TypeReg { // folders, and links to layers that come as themselves
		return nil
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%.200q is a sparse file: %w", h.Name, oci.ErrUnsupported)
		}
	}
	if h.Size == 0 {
		return nil
	}
	named := digestOf(h.Name)
	head := make([]byte, min(headSize, h.Size))
	if _, err := io.ReadFull(s.tar, head); err != nil {
		return s.cause(err)
	}
	if _, ok := s.layers[named]; isText(head) && !ok {
		return s.document(h, named, head)
	}
	if !s.isLayer(h.Name, named) {
		return nil
	}
	return s.layer(h, named, head)
}

// digestOf gives the digest that a part is named by: blobs/sha256/HEX,
// HEX.tar, HEX.json. "" if it isn't.
func digestOf(name string) oci.Digest {
	dir, base := path.Split(path.Clean(name))
	if algorithm, ok := strings.CutPrefix(dir, "blobs/"); ok {
		if d := oci.Digest(strings.TrimSuffix(algorithm, "/") + ":" + base); oci.ValidDigest(d) == nil {
			return d
		}
	}
	if d := oci.Digest("sha256:" + strings.TrimSuffix(strings.TrimSuffix(base, ".tar"), ".json")); dir == "" && oci.ValidDigest(d) == nil {
		return d
	}
	return ""
}
