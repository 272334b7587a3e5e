package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// rawImage brings the config of n as it is, and its layers as plain tar under
// their diffIDs.
func (t *tree) rawImage(ctx context.Context, n node) error {
	if !isImageConfig(n.m.Config.MediaType) {
		return t.artifact(n)
	}
	var cfg struct{ RootFS ocispec.RootFS }
	err := t.readConfig(ctx, *n.m.Config, &cfg)
	if err == nil {
		err = checkDiffIDs(cfg.RootFS.DiffIDs, n.m.Layers)
	}
	if err != nil {
		return oci.Wrap(err, "read config", t.report.Reference, oci.Descriptor{})
	}
	t.countLayers(n)
	return each(ctx, n.m.Blobs(), t.atOnce(), func(ctx context.Context, i int, d oci.Descriptor) error {
		if i == 0 {
			return t.move(ctx, t.piece(d, -1))
		}
		return t.move(ctx, t.plainLayer(d, cfg.RootFS.DiffIDs[i-1], i-1))
	})
}

func checkDiffIDs(ids []oci.Digest, layers []oci.Descriptor) error {
	if len(ids) != len(layers) {
		return fmt.Errorf("%w: %d layers, but %d diff_ids in the config", oci.ErrInvalid, len(layers), len(ids))
	}
	for _, id := range ids {
		if err := oci.ValidDigest(id); err != nil {
			return err
		}
	}
	return nil
}

// plainLayer is layer d without its compression. Its size is known only if it has
// none.
func (t *tree) plainLayer(d oci.Descriptor, diffID oci.Digest, index int) Piece {
	b := oci.Blob{Desc: oci.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffID, Size: -1}, DiffID: diffID, Layer: index}
	if codec, _ := layer.CodecOf(d.MediaType); codec == layer.None && d.Digest == diffID {
		b.Desc.Size = d.Size
	}
	b.Open = func(ctx context.Context) (io.ReadCloser, error) {
		stored, err := t.Source.Fetch(ctx, d)
		if err != nil {
			return nil, err
		}
		plain, err := layer.Open(stored, layer.Options{})
		if err != nil {
			return nil, oci.Wrap(errors.Join(err, stored.Close()), "decompress layer", t.report.Reference, d)
		}
		// The end of plain is behind the end of stored, whose digest the source
		// checks; plain's is the destination's to compute, and move compares it.
		return plainReader{plain, stored}, nil
	}
	return Piece{Blob: b, Size: d.Size}
}

// A plainReader reads a layer without its compression.
type plainReader struct {
	*layer.Reader
	stored io.Closer
}

func (r plainReader) Close() error { return errors.Join(r.Reader.Close(), r.stored.Close()) }
