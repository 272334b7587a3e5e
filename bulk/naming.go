package bulk

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

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
	// Template replaces repository:tag. {registry} {namespace} {repo} {name}
	// {tag} {digest} stand for parts of the source: of quay.io/kolla/team/svc:1,
	// namespace is kolla, repo is team/svc and name is svc; digest has no
	// algorithm in front.
	Template string
}

var placeholderRE = regexp.MustCompile(`\{[^{}]*\}`)

// Name gives the destination of item. It returns an error matching
// [oci.ErrUsage] where that is no valid name, or Template has an unknown
// placeholder.
func (n Naming) Name(item oci.Item) (oci.Ref, error) {
	to := oci.Ref{Registry: n.Registry, Repository: item.Ref.Repository, Tag: item.Ref.Tag, Digest: item.Ref.Digest}
	if to.Registry == "" {
		to.Registry = item.Ref.Registry
	}
	namespace, repo, ok := strings.Cut(item.Ref.Repository, "/")
	if !ok {
		namespace, repo = "", item.Ref.Repository
	}
	switch {
	case n.Template != "":
		_, hex, _ := strings.Cut(string(item.Desc.Digest), ":")
		values := map[string]string{
			"{registry}":  strings.ReplaceAll(item.Ref.Registry, ":", "-"),
			"{namespace}": namespace,
			"{repo}":      repo,
			"{name}":      repo[strings.LastIndexByte(repo, '/')+1:],
			"{tag}":       item.Ref.Tag,
			"{digest}":    hex,
		}
		var unknown string
		text := placeholderRE.ReplaceAllStringFunc(n.Template, func(p string) string {
			v, ok := values[p]
			if !ok {
				unknown = p
			}
			return v
		})
		if unknown != "" {
			return oci.Ref{}, oci.Usage(fmt.Sprintf("template %q: unknown placeholder %s; it can have %s", n.Template, unknown, strings.Join(slices.Sorted(maps.Keys(values)), " ")))
		}
		to.Repository, to.Tag, _ = strings.Cut(strings.TrimPrefix(text, "/"), ":")
		if to.Digest = item.Ref.Digest; to.Tag != "" {
			to.Digest = ""
		}
	case n.StripNamespace:
		to.Repository = repo
	}
	if n.Prefix != "" {
		to.Repository = strings.TrimSuffix(n.Prefix+"/"+to.Repository, "/")
	}
	if !oci.ValidRepository(to.Repository) || to.Tag != "" && !oci.ValidTag(to.Tag) {
		return oci.Ref{}, oci.Usage(fmt.Sprintf("%s would get the name %q, which is none; change --dest-template or the destination", item.Ref, to))
	}
	return to, nil
}
