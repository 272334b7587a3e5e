package publish

import (
	"context"
	"fmt"
	"slices"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// ArchOptions say which platforms [Publisher.AddPlatforms] and
// [Publisher.RemovePlatforms] are about. The zero value is none.
type ArchOptions struct {
	Archs     []string       // every platform of these architectures: "amd64"
	Platforms []oci.Platform // and these; only what is set is compared
	// Except inverts the choice: all platforms but those.
	Except bool
	// Source is a tag of the same repository. With it, RemovePlatforms removes
	// only what the source has too, with the same digest. AddPlatforms doesn't
	// look at it.
	Source oci.Ref
	// StrictOSVersion, Type and Style are those of [MergeOptions].
	StrictOSVersion bool
	Type            string
	Style           index.Style
	Guard           Guard
	Hooks           Hooks
}

// about reports whether o is about p. It is about nothing that nobody knows the
// platform of.
func (o ArchOptions) about(p oci.Platform) bool {
	if p.Architecture == "" {
		return false
	}
	patterns := slices.Clone(o.Platforms)
	for _, arch := range o.Archs {
		patterns = append(patterns, oci.Platform{Architecture: arch})
	}
	return anyMatches(patterns, p) != o.Except
}

func (o ArchOptions) index() index.Options {
	return index.Options{Eligible: o.about, StrictOSVersion: o.StrictOSVersion, Type: o.Type, Style: o.Style}
}

// AddPlatforms gives each of tags those platforms of source, a tag of the same
// repository, that opt is about; what else the tags have stays. A tag that would
// have just the source's platforms gets the source's bytes. Where source has no
// such platform the tags stay as they are, with a warning. A single image is its
// own platform.
//
// References to other repositories, digests, and a missing source are errors
// matching [oci.ErrUsage]; a single image on one side and a list on the other is
// one matching [oci.ErrRefused], and then nothing was written.
func (p *Publisher) AddPlatforms(ctx context.Context, source oci.Ref, tags []oci.Ref, opt ArchOptions) (*Report, error) {
	if source == (oci.Ref{}) {
		return nil, oci.Usage("a source must be given: the tag whose platforms are to be added")
	}
	return p.arch(ctx, "tag add", source, tags, opt, func(ctx context.Context, w *archWork, tag oci.Ref, old state) (aim, error) {
		if oci.IsIndexType(w.from.Desc.MediaType) {
			return w.add(ctx, tag, old)
		}
		return w.addSingle(ctx, tag, old)
	})
}

// RemovePlatforms takes from each of tags the platforms that opt is about, or with
// opt.Source those of them that the source has with the same digest. The rest stays
// as it is, in its order. A tag of which nothing stays is deleted, and nothing else
// with it. Where there is nothing to remove, or no tag, there is a warning.
//
// Errors are those of [Publisher.AddPlatforms], and those of deleting a tag.
func (p *Publisher) RemovePlatforms(ctx context.Context, tags []oci.Ref, opt ArchOptions) (*Report, error) {
	return p.arch(ctx, "tag remove", opt.Source, tags, opt, func(ctx context.Context, w *archWork, tag oci.Ref, old state) (aim, error) {
		switch {
		case old.Absent:
			return w.leave(tag, old, "there is no such tag")
		case oci.IsIndexType(old.Desc.MediaType):
			return w.takeAway(ctx, tag, old)
		}
		return w.takeAwaySingle(ctx, tag, old)
	})
}

// sameRepository returns an error matching [oci.ErrUsage] unless source, if there
// is one, and tags are tags of one repository.
func sameRepository(source oci.Ref, tags []oci.Ref) error {
	all := tags
	if source != (oci.Ref{}) {
		if source.Digest != "" || source.Tag == "" {
			return oci.Usage(fmt.Sprintf("%s: the source must be a tag, not a digest", source.String()))
		}
		all = append([]oci.Ref{source}, tags...)
	}
	if len(tags) == 0 {
		return oci.Usage("no tag is given")
	}
	for _, t := range all {
		switch {
		case t.Digest != "" || t.Tag == "":
			return oci.Usage(fmt.Sprintf("%s: it must be a tag, not a digest", t.String()))
		case t.Name() != all[0].Name():
			return oci.Usage(fmt.Sprintf("%s and %s: platforms are added and removed within one repository; merge joins lists of two", all[0].String(), t.String()))
		}
	}
	return nil
}
