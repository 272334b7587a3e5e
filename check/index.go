package check

import (
	"context"
	"errors"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// index checks the entries of an index, and each manifest below it once.
func (x *exam) index(ctx context.Context, m *oci.Manifest, at place) error {
	if at.depth == maxDepth {
		x.report.add(at.prefix, found(Error, "index-child", "indexes nested deeper than %d", maxDepth))
		return nil
	}
	entries := x.chosen(m.Manifests)
	x.report.add(at.prefix, duplicates(entries)...)
	for _, d := range entries {
		prefix := at.prefix
		if name := platformName(d.Platform); name != "" && !isAttestation(d) {
			prefix = name + ": "
		}
		if err := x.entry(ctx, d, place{entry: &d, prefix: prefix, depth: at.depth + 1}); err != nil {
			return err
		}
	}
	return nil
}

// duplicates finds images for one platform. Variants of what can't be told
// apart by os, architecture and variant say so by features or annotations.
func duplicates(entries []oci.Descriptor) (out []Result) {
	first := map[string]oci.Descriptor{}
	for _, d := range entries {
		if isAttestation(d) || d.ArtifactType != "" || len(d.Annotations) > 0 || platformName(d.Platform) == "" || oci.IsIndexType(d.MediaType) {
			continue
		}
		p := *d.Platform
		name := strings.Join(append([]string{platformName(&p), p.OSVersion}, p.OSFeatures...), " ")
		if other, ok := first[name]; ok {
			out = append(out, found(Warning, "index-duplicate", "%s and %s are both for %s", short(other.Digest), short(d.Digest), strings.TrimSpace(name)))
			continue
		}
		first[name] = d
	}
	return out
}

// entry checks one entry and what it names.
func (x *exam) entry(ctx context.Context, d oci.Descriptor, at place) error {
	add := func(s Severity, id, format string, args ...any) {
		x.report.add(at.prefix, found(s, id, format, args...))
	}
	if x.visited[d.Digest] {
		return nil
	}
	if x.visited[d.Digest] = true; len(x.visited) > maxManifests {
		if len(x.visited) == maxManifests+1 {
			add(Error, "index-child", "more than %d manifests", maxManifests)
		}
		return nil
	}
	if d.MediaType != "" && !oci.IsManifestType(d.MediaType) && !strings.Contains(d.MediaType, "manifest") { // a blob of a build cache
		if x.opt.Fast {
			return nil
		}
		results, err := x.bytes(ctx, x.src, "blob "+short(d.Digest), d)
		x.report.add(at.prefix, results...)
		return err
	}
	got, raw, err := x.src.Resolve(ctx, string(d.Digest))
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return err
	case errors.Is(err, oci.ErrNotFound):
		add(Error, "index-child", "%s isn't there", d.Digest)
		return nil
	case errors.Is(err, oci.ErrDigestMismatch):
		add(Error, "index-child", "%s: the bytes have another digest", d.Digest)
		return nil
	case unreadable(err):
		add(Error, "manifest-valid", "%v", cause(err))
		return nil
	default:
		return err
	}
	if int64(len(raw)) != d.Size {
		add(Error, "index-child", "%s has %d bytes, the index says %d", d.Digest, len(raw), d.Size)
	}
	m, parsed := oci.ParseManifest(got.MediaType, raw)
	if parsed == nil && d.MediaType != "" && m.MediaType != d.MediaType {
		add(Error, "index-child", "%s is a %s, the index says %s", d.Digest, m.MediaType, d.MediaType)
	}
	at.madeUp = oci.IsSynthetic(got)
	return x.manifest(ctx, got.MediaType, raw, at)
}
