package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/layer"
	"github.com/quaymaster/quaymaster/oci"
)

const (
	// maxDepth bounds how deep indexes may nest.
	maxDepth = 4
	// maxManifests bounds the manifests of one image.
	maxManifests = 10_000
	// largeLayer is how many compressed bytes make one that is worth a warning.
	largeLayer = 1 << 30
)

// ofManifest are the checks of which a manifest that was made up passes all, and
// large-layer, which is of compressed sizes.
var ofManifest = map[string]bool{
	"schema-version": true, "oci-media-type": true, "config-descriptor": true, "config-digest": true,
	"config-size": true, "layer-count": true, "large-layer": true,
}

// known leaves out results that say nothing, because the manifest was made up.
func (p place) known(results []Result) []Result {
	if !p.madeUp {
		return results
	}
	return slices.DeleteFunc(results, func(r Result) bool { return r.Severity != Error && ofManifest[r.Check] })
}

// An exam is the check of one image.
type exam struct {
	*Checker
	src     oci.Source
	item    oci.Item
	report  Report
	visited map[oci.Digest]bool // manifests
	images  int                 // that were looked at
}

// A place is where in the image a manifest stands.
type place struct {
	entry  *oci.Descriptor // in the index; nil for the root
	prefix string          // of messages: the platform
	// madeUp says that the place keeps no manifest, and that what it says of
	// manifest and blobs is no fact of the image.
	madeUp bool
	depth  int
}

// root resolves the image and checks all of it.
func (x *exam) root(ctx context.Context) error {
	name := x.item.Ref.Reference()
	ref := name
	if x.item.Desc.Digest != "" {
		ref = string(x.item.Desc.Digest)
	}
	d, raw, err := x.src.Resolve(ctx, ref)
	switch {
	case err == nil:
	case errors.Is(err, oci.ErrNotFound) && ref != name && name != "" && !oci.IsDigest(name):
		return x.missing(ctx, name, err)
	case ctx.Err() == nil && errors.Is(err, oci.ErrDigestMismatch):
		x.report.add("", found(Error, "manifest-digest", "%v", cause(err)))
		return nil
	case ctx.Err() == nil && unreadable(err):
		x.report.add("", found(Error, "manifest-valid", "%v", cause(err)))
		return nil
	default:
		return err
	}
	if err := x.manifest(ctx, d.MediaType, raw, place{madeUp: oci.IsSynthetic(d)}); err != nil {
		return err
	}
	if len(x.opt.Platforms) > 0 && x.images == 0 && x.report.Errors == 0 {
		return fmt.Errorf("no image for the chosen platforms: %w", oci.ErrNotFound)
	}
	return nil
}

// missing says why the listed digest isn't there.
func (x *exam) missing(ctx context.Context, name string, err error) error {
	now, headErr := x.src.Head(ctx, name)
	switch {
	case errors.Is(headErr, oci.ErrNotFound):
		return oci.ErrGone
	case headErr == nil && now.Digest != x.item.Desc.Digest:
		return fmt.Errorf("%w: %s -> %s", oci.ErrMoved, x.item.Desc.Digest, now.Digest)
	}
	return err
}

// unreadable reports whether err says that a manifest is there and is no good.
func unreadable(err error) bool {
	return errors.Is(err, oci.ErrInvalid) || errors.Is(err, oci.ErrTooLarge) || errors.Is(err, oci.ErrUnsupported)
}

// cause is err without the step and place that it happened at.
func cause(err error) error {
	for {
		e, ok := errors.AsType[*oci.Error](err)
		if !ok {
			return err
		}
		err = e.Err
	}
}

// manifest checks a manifest or index and all below it.
func (x *exam) manifest(ctx context.Context, mt oci.MediaType, raw []byte, at place) error {
	add := func(results ...Result) { x.report.add(at.prefix, at.known(results)...) }
	m, wrong := parse(mt, raw)
	if wrong != nil {
		add(*wrong)
		return nil
	}
	attested := at.entry != nil && isAttestation(*at.entry)
	if !attested {
		add(found(Info, "schema-version", "schemaVersion is 2"))
		family := "oci-media-type"
		if strings.Contains(m.MediaType, ".docker.") {
			family = "docker-media-type"
		}
		add(found(Info, family, "%s", m.MediaType))
	}
	switch {
	case m.IsIndex():
		return x.index(ctx, m, at)
	case attested:
		return x.blobs(ctx, m, at)
	case !isImage(m):
		kind := m.ArtifactType
		if kind == "" {
			kind = m.Config.MediaType
		}
		x.images++ // it has no platform, and passes
		add(found(Warning, "metadata", "no image but an artifact (%s): only digests and sizes are checked", kind))
		return x.blobs(ctx, m, at)
	}
	return x.image(ctx, m, at)
}

// parse reads a manifest, or says what is wrong with it. What has a check of
// its own is looked for first.
func parse(mt oci.MediaType, raw []byte) (*oci.Manifest, *Result) {
	var shape struct {
		SchemaVersion *int `json:"schemaVersion"`
		Config        *struct {
			Digest string `json:"digest"`
		} `json:"config"`
		Layers    []json.RawMessage `json:"layers"`
		Manifests json.RawMessage   `json:"manifests"`
	}
	schema1 := mt == oci.MediaTypeDockerSchema1 || mt == oci.MediaTypeDockerSigned1
	if !schema1 && len(raw) <= oci.MaxManifestSize && oci.StrictJSON(raw) == nil && json.Unmarshal(raw, &shape) == nil {
		if v := shape.SchemaVersion; v == nil || *v != 2 {
			said := "missing"
			if v != nil {
				said = fmt.Sprint(*v)
			}
			return nil, &Result{Error, "schema-version", "schemaVersion is " + said + ", not 2"}
		}
		if shape.Layers != nil && shape.Manifests == nil && (shape.Config == nil || shape.Config.Digest == "") {
			return nil, &Result{Error, "config-descriptor", "the manifest names no config"}
		}
	}
	m, err := oci.ParseManifest(mt, raw)
	if err != nil {
		return nil, &Result{Error, "manifest-valid", err.Error()}
	}
	return m, nil
}

// isImage reports whether m is an image's: its config tells platform and
// layers, and some layer, if there are any, is a tar. Signatures borrow the
// config's type.
func isImage(m *oci.Manifest) bool {
	if mt := m.Config.MediaType; mt != ocispec.MediaTypeImageConfig && mt != "application/vnd.docker.container.image.v1+json" {
		return false
	}
	for _, d := range m.Layers {
		if _, ok := layer.CodecOf(d.MediaType); ok {
			return true
		}
	}
	return len(m.Layers) == 0
}

// blobs checks digests and sizes of what m names: the config, and in full mode
// the layers.
func (x *exam) blobs(ctx context.Context, m *oci.Manifest, at place) error {
	all := m.Blobs()
	if x.opt.Fast {
		all = nil
	}
	for i, d := range all {
		what := fmt.Sprintf("blob %d (%s)", i, short(d.Digest))
		results, err := x.bytes(ctx, x.src, what, d)
		if err != nil {
			return err
		}
		x.report.add(at.prefix, results...)
	}
	return nil
}

// image checks the image of m: its config, then its layers.
func (x *exam) image(ctx context.Context, m *oci.Manifest, at place) error {
	add := func(results ...Result) { x.report.add(at.prefix, at.known(results)...) }
	raw, wrong, err := x.config(ctx, x.src, *m.Config)
	if err != nil {
		return err
	}
	var cfg *config
	var unread error
	if raw != nil {
		cfg, unread = parseConfig(raw)
	}
	if cfg != nil && at.entry == nil && !x.wants(cfg.platform()) {
		return nil // root says that there is none
	}
	x.images++
	add(found(Info, "config-descriptor", "config %s", short(m.Config.Digest)))
	add(wrong...)
	add(layerTypes(m.Layers)...)
	var diffIDs []oci.Digest
	switch {
	case unread != nil:
		add(found(Error, "config-valid", "config %s: %v", short(m.Config.Digest), unread))
	case cfg != nil:
		add(found(Info, "config-digest", "the config has its digest"), found(Info, "config-size", "the config has %d bytes", len(raw)))
		add(cfg.check(len(m.Layers))...)
		add(inIndex(at.entry, cfg.platform())...)
		diffIDs = cfg.RootFS.DiffIDs
	}
	if x.opt.Fast {
		return nil
	}
	results, err := x.layers(ctx, m.Layers, diffIDs)
	add(results...)
	return err
}

func (c *config) platform() oci.Platform {
	return oci.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
}

// inIndex compares the platform of an index's entry with that of its config.
func inIndex(entry *oci.Descriptor, p oci.Platform) []Result {
	switch {
	case entry == nil:
		return nil
	case platformName(entry.Platform) == "":
		return []Result{found(Warning, "index-platform", "the index says no platform for %s, which is for %s", short(entry.Digest), platformName(&p))}
	case p.OS != "" && p.Architecture != "" && !agree(*entry.Platform, p):
		return []Result{found(Error, "index-platform", "the index says %s, the config of %s %s", platformName(entry.Platform), short(entry.Digest), platformName(&p))}
	}
	return nil
}

// layerTypes says what the descriptors alone tell of layers.
func layerTypes(layers []oci.Descriptor) (out []Result) {
	zstd := 0
	for i, d := range layers {
		codec, ok := layer.CodecOf(d.MediaType)
		if !ok {
			out = append(out, found(Warning, "layer-media-type", "layer %d (%s): %q is no layer's media type, so its entries are not checked", i, short(d.Digest), d.MediaType))
		}
		if codec == layer.Zstd {
			zstd++
		}
		if d.Size > largeLayer {
			out = append(out, found(Warning, "large-layer", "layer %d (%s) has %d bytes", i, short(d.Digest), d.Size))
		}
	}
	if zstd > 0 {
		out = append(out, found(Warning, "zstd-compat", "%d of %d layers are zstd, which Docker before 20.10 and containerd before 1.5 don't read", zstd, len(layers)))
	}
	return out
}
