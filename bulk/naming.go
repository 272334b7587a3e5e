package bulk

import (
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// A Naming makes the names that images get in a registry: its host, a prefix,
// and the repository and tag that they had. The zero value of the last two
// fields keeps repository paths whole: quay.io/kolla/nova-api:1 becomes
// Registry/Prefix/kolla/nova-api:1.
type Naming struct {
	Registry string // host[:port]; "" keeps the image's own
	Prefix   string // path in front of the repository; "" for none
	// StripNamespace drops the first part of repository paths that have more.
	StripNamespace bool
	// Template, a [backend.Template], replaces repository:tag.
	Template string
	// Arch is what {arch} in Template stands for.
	Arch string
}

// Name gives the destination of item. It returns an error matching
// [oci.ErrUsage] where that is no valid name, or Template has an unknown
// placeholder.
func (n Naming) Name(item oci.Item) (oci.Ref, error) {
	to := oci.Ref{Registry: n.Registry, Repository: item.Ref.Repository, Tag: item.Ref.Tag, Digest: item.Ref.Digest}
	if to.Registry == "" {
		to.Registry = item.Ref.Registry
	}
	switch {
	case n.Template != "":
		t, err := backend.ParseTemplate(n.Template)
		if err != nil {
			return oci.Ref{}, err
		}
		text, err := t.Expand(backend.Subject{Ref: item.Ref, Digest: item.Desc.Digest, Arch: n.Arch})
		if err != nil {
			return oci.Ref{}, err
		}
		to.Repository, to.Tag, _ = strings.Cut(strings.TrimPrefix(text, "/"), ":")
		if to.Digest = item.Ref.Digest; to.Tag != "" {
			to.Digest = ""
		}
	case n.StripNamespace:
		if _, repo, ok := strings.Cut(item.Ref.Repository, "/"); ok {
			to.Repository = repo
		}
	}
	if n.Prefix != "" {
		to.Repository = strings.TrimSuffix(n.Prefix+"/"+to.Repository, "/")
	}
	if !oci.ValidRepository(to.Repository) || to.Tag != "" && !oci.ValidTag(to.Tag) {
		return oci.Ref{}, oci.Usage(fmt.Sprintf("%s would get the name %q, which is none; change --dest-template or the destination", item.Ref, to))
	}
	return to, nil
}
