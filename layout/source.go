package layout

import (
	"context"

	"github.com/quaymaster/quaymaster/oci"
)

// source is the layout as the source of one image.
type source struct {
	*Reader
	item oci.Item
}

// Resolve takes a digest of any manifest in the layout, the image's tag, "" for
// the image itself, and names in index.json.
func (s *source) Resolve(_ context.Context, ref string) (oci.Descriptor, []byte, error) {
	d, raw, err := s.resolve(ref)
	if err != nil {
		return oci.Descriptor{}, nil, oci.Wrap(err, "read manifest", s.Path, d)
	}
	return d, raw, nil
}

func (s *source) resolve(ref string) (oci.Descriptor, []byte, error) {
	d := oci.Descriptor{Digest: oci.Digest(ref)}
	switch {
	case ref == "" || ref == s.item.Ref.Tag || ref == string(s.item.Desc.Digest):
		d = s.item.Desc
	case oci.IsDigest(ref): // a child: its own bytes say what it is
	default:
		items, _, err := s.Items()
		if err != nil {
			return oci.Descriptor{}, nil, err
		}
		item, err := Pick(items, ref)
		if err != nil {
			return oci.Descriptor{}, nil, err
		}
		d = item.Desc
	}
	full, raw, err := s.Manifest(d)
	return oci.Descriptor{MediaType: full.MediaType, Digest: full.Digest, Size: full.Size}, raw, err
}

func (s *source) Head(ctx context.Context, ref string) (oci.Descriptor, error) {
	d, _, err := s.Resolve(ctx, ref)
	return d, err
}
