package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

// describe asks the source what it knows of the image ref without reading it.
func (c *copier) describe(ctx context.Context, ref string) (told, error) {
	d, ok := c.Source.(oci.Describer)
	if !ok {
		return told{synthetic: true}, nil
	}
	desc, raw, err := d.Describe(ctx, ref)
	if err != nil {
		return told{}, oci.Wrap(err, "look up", c.report.Reference, oci.Descriptor{})
	}
	t := told{desc: desc, config: oci.Digest(desc.Annotations[oci.AnnotationConfig]), described: true}
	t.synthetic = oci.IsSynthetic(desc)
	var cfg imageConfig
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return told{}, oci.Wrap(fmt.Errorf("%w: %w", oci.ErrInvalid, err), "read config", c.report.Reference, oci.Descriptor{})
	}
	t.platform, t.diffIDs = &cfg.Platform, cfg.RootFS.DiffIDs
	return t, nil
}

// inspectDescribed tells what the source says of an image without reading it.
func (c *copier) inspectDescribed(ctx context.Context, info *Info, d oci.Describer) error {
	ref := c.Item.Ref.Reference()
	if pin := c.Item.Desc.Digest; pin != "" {
		ref = string(pin)
	}
	desc, raw, err := d.Describe(ctx, ref)
	if err != nil {
		return oci.Wrap(err, "look up", c.report.Reference, oci.Descriptor{})
	}
	var cfg config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return oci.Wrap(fmt.Errorf("%w: %w", oci.ErrInvalid, err), "read config", c.report.Reference, oci.Descriptor{})
	}
	if !oci.IsSynthetic(desc) {
		info.Digest = desc.Digest
	}
	info.describe(cfg) // without a manifest, which only reading the image gives
	return nil
}

// isToldThere reports whether there is the image, as far as that can be told
// without reading it: the name has its manifest, or one with its config, so
// that the layers are the same.
func (s *streaming) isToldThere(ctx context.Context, there oci.Descriptor) (bool, error) {
	if s.opt.Filters.Looks || s.filters != "" && !s.Traits.Raw || there.Annotations[oci.AnnotationFilters] != s.filters {
		return false, nil
	}
	if d := s.told.desc.Digest; d != "" && d == there.Digest && (s.Traits.Raw || keeps(s.Traits)) {
		return true, nil
	}
	if s.told.config == "" {
		return false, nil
	}
	if s.hasConfig(there, s.told.config) {
		return true, nil
	}
	d, raw, err := s.Dest.Resolve(ctx, "")
	switch {
	case errors.Is(err, oci.ErrNotFound), errors.Is(err, oci.ErrUnsupported):
		return false, nil
	case err != nil:
		return false, oci.Wrap(err, "look up", s.report.Destination, oci.Descriptor{})
	}
	n, err := parse(d, raw)
	if err != nil || n.m.IsIndex() || n.m.Config.Digest != s.told.config || len(n.m.Layers) != len(s.told.diffIDs) {
		return false, nil //nolint:nilerr // what is no image is to be overwritten
	}
	for _, l := range n.m.Layers {
		codec, ok := layer.CodecOf(l.MediaType)
		if _, change := s.wanted(l.MediaType, codec); !ok || change && !s.Traits.Raw {
			return false, nil
		}
	}
	return true, nil
}
