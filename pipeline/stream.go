package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxStreams bounds how often an image is streamed because filters must see
	// a layer once more: 10.
	maxStreams = 10
	// maxBroken bounds how often it is streamed again because something failed: 3.
	maxBroken = 3
)

// A streaming is the copy of an image whose parts come once, in an order of
// their own. What it learns and what it put stays if the stream has to begin
// again.
type streaming struct {
	*tree
	src  oci.Streamer
	ref  string
	dest oci.Destination
	told told

	config    []byte // the image's own; nil until it came
	diffIDs   []oci.Digest
	manifests [][2]string // media types and bytes
	layers    map[string]*streamed
	arrived   int   // layers, in this stream
	again     int   // layers that need another stream
	failed    error // why some of them do

	pile spool.Pile // of layers that wait for their turn
	next int        // the place whose turn it is, of a target that is [oci.Traits] Ordered
}

// A told is what a place says of an image before it is read.
type told struct {
	desc      oci.Descriptor
	config    oci.Digest // "" if it isn't known
	platform  *oci.Platform
	diffIDs   []oci.Digest
	described bool // else the rest is empty
	synthetic bool // no manifest is to be expected
}

// A streamed is one layer of a stream.
type streamed struct {
	result                // as it is to stand in the manifest; set once it is done
	source oci.Descriptor // as it came; Digest is "" until it is known
	was    oci.Digest     // diffID before filters; "" until it is known
	claims oci.Blob       // what the stream said of it
	done   bool

	mk        *Making // on its way through filters
	restarts  int     // of mk's pass, before this stream
	unchanged *Made   // the filters leave it as it is
	spooled   *spool.Section
}

// stream copies an image in the order in which its parts come.
func (c *copier) stream(ctx context.Context, src oci.Streamer, there *oci.Descriptor) error {
	if len(c.opt.Platforms) > 1 && !c.Traits.Index {
		return oci.Usage(fmt.Sprintf("the destination takes one platform, and %d were chosen", len(c.opt.Platforms)))
	}
	t := &tree{copier: c, visits: map[oci.Digest]*visit{}, outcomes: map[oci.Digest]filter.Outcome{}}
	s := &streaming{tree: t, src: src, ref: c.Item.Ref.Reference(), dest: c.mover.Dest(), layers: map[string]*streamed{}}
	if d := c.Item.Desc; d.Digest != "" && !oci.IsSynthetic(d) { // nobody has what was made up
		s.ref = string(d.Digest)
	}
	s.pile.What = "layers of " + c.report.Reference
	defer s.pile.Close()
	var err error
	if s.told, err = c.describe(ctx, s.ref); err != nil {
		return err
	}
	c.learnt(s.told.desc)
	c.report.Layers = len(s.told.diffIDs)
	if s.told.platform != nil {
		if err := oneOf(c.opt.Platforms, *s.told.platform); err != nil {
			return oci.Wrap(err, "choose platform", c.report.Reference, oci.Descriptor{})
		}
	}
	if there != nil {
		same, err := s.isToldThere(ctx, *there)
		if err != nil {
			return err
		}
		if same {
			return c.skip(ctx, *there)
		}
	}
	if c.opt.DryRun {
		c.report.Status = oci.StatusPlanned
		return nil
	}
	if err := s.streams(ctx); err != nil {
		return err
	}
	return s.close(ctx, there)
}

// streams reads the image as often as it takes to have all of it.
func (s *streaming) streams(ctx context.Context) error {
	for n, broken := 1, 0; ; n++ {
		s.arrived, s.again, s.failed = 0, 0, nil
		s.beginOrder()
		err := s.once(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && s.again == 0:
			return nil
		case err == nil && s.failed == nil && n < maxStreams:
			continue
		case err == nil && s.failed == nil:
			return oci.Wrap(fmt.Errorf("%w: layers had to be read more than %d times", oci.ErrTooLarge, maxStreams), "filter layers", s.report.Reference, oci.Descriptor{})
		case err == nil:
			err = s.failed
		case !isBroken(err):
			return err
		}
		if broken++; broken == maxBroken || n >= maxStreams {
			return err
		}
		if err := wait(ctx, time.Duration(broken*broken)*200*time.Millisecond); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A brokenError is a failure of the stream, or of reading from it.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

// isBroken reports whether err is a failure of a stream that may go better the
// next time.
func isBroken(err error) bool {
	if _, ok := errors.AsType[*brokenError](err); !ok {
		return false
	}
	for _, final := range []error{oci.ErrNotFound, oci.ErrDenied, oci.ErrUnsupported, oci.ErrTooLarge, oci.ErrDigestMismatch,
		oci.ErrInvalid, oci.ErrUsage, oci.ErrRefused, oci.ErrMoved, oci.ErrGone} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// once reads the image once.
func (s *streaming) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.deliver(ctx); err != nil {
		return err
	}
	for b, err := range s.src.Stream(ctx, s.ref) {
		if err != nil {
			return &brokenError{oci.Wrap(err, "read image", s.report.Reference, oci.Descriptor{})}
		}
		switch {
		case b.Layer != oci.NoLayer:
			err = s.layer(ctx, b)
		case oci.IsManifestType(b.Desc.MediaType):
			err = s.takeManifest(ctx, b)
		default:
			err = s.takeConfig(ctx, b)
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// takeConfig keeps the image's config.
func (s *streaming) takeConfig(ctx context.Context, b oci.Blob) error {
	raw, err := readAll(ctx, b, maxConfigSize)
	if err != nil {
		return oci.Wrap(err, "read config", s.report.Reference, b.Desc)
	}
	d := digestOf(raw)
	switch {
	case s.config != nil && d == s.copier.config:
		return nil
	case s.config != nil && d != s.told.config:
		if s.copier.config == s.told.config {
			return nil
		}
		return oci.Wrap(fmt.Errorf("%w: the stream has two configs, %s and %s", oci.ErrInvalid, s.copier.config, d), "read config", s.report.Reference, oci.Descriptor{})
	}
	var cfg imageConfig
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return oci.Wrap(fmt.Errorf("%w: %w", oci.ErrInvalid, err), "read config", s.report.Reference, oci.Descriptor{Digest: d})
	}
	for _, id := range cfg.RootFS.DiffIDs {
		if err := oci.ValidDigest(id); err != nil {
			return oci.Wrap(err, "read config", s.report.Reference, oci.Descriptor{Digest: d})
		}
	}
	if err := oneOf(s.opt.Platforms, cfg.Platform); err != nil {
		return oci.Wrap(err, "choose platform", s.report.Reference, oci.Descriptor{})
	}
	s.copier.config, s.copier.configRaw = d, raw // for openEdit
	s.config, s.diffIDs = raw, cfg.RootFS.DiffIDs
	return s.deliver(ctx)
}

// An imageConfig is what streams need to know of one.
type imageConfig struct {
	oci.Platform
	RootFS ocispec.RootFS `json:"rootfs"`
}

// maxStreamManifests bounds the manifests that a stream may end with: 16.
const maxStreamManifests = 16

// takeManifest keeps what may be the image's manifest.
func (s *streaming) takeManifest(ctx context.Context, b oci.Blob) error {
	if len(s.manifests) == maxStreamManifests {
		return nil // it is not the place's own that comes so late
	}
	raw, err := readAll(ctx, b, oci.MaxManifestSize)
	if err != nil {
		return oci.Wrap(err, "get manifest", s.report.Reference, b.Desc)
	}
	s.manifests = append(s.manifests, [2]string{b.Desc.MediaType, string(raw)})
	return nil
}

// ids are the diffIDs of the image as far as they are known, lowest first.
func (s *streaming) ids() []oci.Digest {
	if s.config != nil {
		return s.diffIDs
	}
	return s.told.diffIDs
}
