package pipeline

import (
	"context"

	"github.com/quaymaster/quaymaster/oci"
)

// A Piece is one blob that an image needs at its destination.
type Piece struct {
	// Blob has digest and size, but for layers as plain tar: their digest is the
	// diffID, and their size -1 where the source has them compressed. Open reads
	// from the source.
	Blob oci.Blob
	// Size counts the bytes as the source stores them.
	Size int64
	// Again says that the blob was read at the source before, by filters that
	// left it as it was.
	Again bool
}

// A Way is how a blob came to be at the destination.
type Way int

const (
	// Present was there already.
	Present Way = iota
	// Mounted came from another repository of the destination's registry.
	Mounted
	// Relayed was read at the destination, because it refused to mount.
	Relayed
	// Fetched came from the source. In a dry run it would.
	Fetched
)

// A Mover brings one blob to the destination that it was made for. It returns
// when the blob is there, and gives its descriptor with digest and size.
// Implementations are safe for concurrent use.
type Mover interface {
	Move(ctx context.Context, p Piece) (oci.Descriptor, Way, error)
	// Make brings what filters, or other compression, make of a layer. If they leave it as it was it
	// only says so; then the caller moves it. In a dry run nobody may know what
	// it comes to: Digest is "" then.
	Make(ctx context.Context, m *Making) (Made, Way, error)
	// Known says what a layer comes to if that is known without reading it. It
	// doesn't promise that the blob is anywhere.
	Known(m *Making) (Made, bool)
	// Dest is the destination, for the parts of a stream, which are put as they
	// come.
	Dest() oci.Destination
}

// direct is the Mover of an image that shares nothing.
type direct struct {
	dest oci.Destination
	dry  bool
}

func (m direct) Move(ctx context.Context, p Piece) (oci.Descriptor, Way, error) {
	there, err := m.dest.Has(ctx, p.Blob.Desc)
	switch {
	case err != nil:
		return oci.Descriptor{}, 0, err
	case there:
		return p.Blob.Desc, Present, nil
	case m.dry:
		return p.Blob.Desc, Fetched, nil
	}
	d, err := m.dest.PutBlob(ctx, p.Blob)
	return d, Fetched, err
}

func (m direct) Make(ctx context.Context, mk *Making) (Made, Way, error) {
	if m.dry {
		return Made{}, Fetched, nil
	}
	return mk.Bring(ctx, m.dest)
}

func (m direct) Known(*Making) (Made, bool) { return Made{}, false }

func (m direct) Dest() oci.Destination { return m.dest }
