package dockersave

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// Files of an archive.
const (
	ManifestFile = "manifest.json"
	legacyFile   = "repositories"
)

// Limits of what is read into memory.
const (
	maxManifest = 64 << 20
	maxConfig   = 4 << 20
	maxImages   = 200_000
	maxNames    = 500_000
	maxLayers   = 10_000 // of one image
)

// An Entry is an image in manifest.json, in docker's order of keys.
type Entry struct {
	Config   string
	RepoTags []string
	Layers   []string
	Source   *Origin `json:",omitempty"` // nil: written by another program
}

// An Origin is what an image was where it came from. Other programs pass it
// over.
type Origin struct {
	Reference string        `json:"reference"`
	Digest    oci.Digest    `json:"digest"`
	Platform  *oci.Platform `json:"platform,omitempty"` // chosen of the index with that digest
	Filters   string        `json:"filters,omitempty"`  // that were applied: [oci.AnnotationFilters]
}

// parseManifest reads a manifest.json.
func parseManifest(raw []byte) ([]Entry, error) {
	var list []Entry
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", ManifestFile, oci.ErrInvalid, err)
	}
	if len(list) > maxImages {
		return nil, fmt.Errorf("%s: %w: it lists %d images", ManifestFile, oci.ErrTooLarge, len(list))
	}
	names := 0
	for i, e := range list {
		if names += len(e.RepoTags); names > maxNames {
			return nil, fmt.Errorf("%s: %w: over %d names", ManifestFile, oci.ErrTooLarge, maxNames)
		}
		if e.Config == "" {
			return nil, fmt.Errorf("%s: %w: image %d has no Config", ManifestFile, oci.ErrInvalid, i)
		}
		if len(e.Layers) > maxLayers {
			return nil, fmt.Errorf("%s: %w: image %d has %d layers", ManifestFile, oci.ErrTooLarge, i, len(e.Layers))
		}
	}
	return list, nil
}

// encode gives a manifest.json of list: entries by their first name, then by
// config.
func encode(list []Entry) ([]byte, error) {
	return json.Marshal(list)
}

// byName orders entries: by reference, then by name, those without at the end,
// then by config.
func byName(a, b Entry) int {
	key := func(e Entry) string {
		if e.Source != nil && e.Source.Reference != "" {
			return e.Source.Reference
		}
		if len(e.RepoTags) > 0 {
			return e.RepoTags[0]
		}
		return "\xff"
	}
	return cmp.Or(cmp.Compare(key(a), key(b)), slices.Compare(a.RepoTags, b.RepoTags), cmp.Compare(a.Config, b.Config))
}

// RepoTag gives what docker is told that ref is called: host/repository:tag, or
// with basename the last part of the repository alone, as occystrap does. ""
// if ref has no repository or no tag: docker takes no digests there.
func RepoTag(ref oci.Ref, basename bool) string {
	if ref.Repository == "" || ref.Tag == "" {
		return ""
	}
	ref.Digest = ""
	if basename {
		ref.Registry, ref.Repository = "", last(ref.Repository)
	}
	return ref.String()
}

// Normal gives ref as docker completes it: docker.io where there is no registry,
// library/ in front of a repository there that has one part, latest.
func Normal(ref oci.Ref) oci.Ref {
	switch ref.Registry {
	case "", "index.docker.io", "registry-1.docker.io":
		ref.Registry = "docker.io"
	}
	if ref.Registry == "docker.io" && last(ref.Repository) == ref.Repository {
		ref.Repository = "library/" + ref.Repository
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	return ref
}

// Names gives what RepoTags of e name.
func Names(e Entry) []oci.Ref {
	var refs []oci.Ref
	for _, tag := range e.RepoTags {
		if ref, ok := parseTag(tag); ok {
			refs = append(refs, ref)
		}
	}
	return refs
}

// parseTag reads one of RepoTags. false: it is no name.
func parseTag(s string) (oci.Ref, bool) {
	ref, ok := layout.ParseName(s)
	if !ok {
		return oci.Ref{}, false
	}
	if ref.Repository == "" && ref.Digest == "" && oci.ValidRepository(ref.Tag) { // "busybox"
		ref.Repository, ref.Tag = ref.Tag, ""
	}
	if ref.Tag == "" {
		ref.Tag = "latest"
	}
	return ref, ref.Repository != "" && ref.Digest == ""
}
