package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/discover"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// openTarget opens the destination: one place, or with placeholders in its path many.
func (s *session) openTarget(ctx context.Context, env backend.Env) (oci.Target, error) {
	u, f := s.dest.uri, s.app.names
	var t oci.Target
	var err error
	switch spread := u.HasPlaceholder(); {
	case spread && u.Scheme == "registry":
		return nil, oci.Usage(fmt.Sprintf("%s: placeholders are for paths; --dest-template names images at a registry", u))
	case spread:
		var template backend.Template
		if template, err = u.Template(); err != nil {
			return nil, err
		}
		var arch string
		if arch, err = s.settle(template); err == nil {
			t, err = s.destKind.Spread(ctx, u, env, arch)
		}
	default:
		t, err = s.destKind.Target(ctx, u, env)
	}
	if err != nil || f.said == nil {
		return t, err
	}
	if _, ok := s.destKind.Options["repo_tags"]; f.said("repo-tags") && !ok {
		err = oci.Usage(fmt.Sprintf("--repo-tags is for docker's archives and daemons, not for %s", u))
	}
	if f.said("compression") && t.Traits().Raw {
		err = oci.Usage(fmt.Sprintf("--compression: layers are plain tar in %s", u))
	}
	if err != nil {
		_ = t.Close() // nothing was written
		return nil, err
	}
	return t, nil
}

// settle sees to it that what t needs of images is known, and gives what
// {arch} stands for.
func (s *session) settle(t backend.Template) (arch string, err error) {
	if t.Has("digest") {
		s.pins = discover.Pinned(s.images)
		s.images = s.pins
	}
	if !t.Has("arch") {
		return "", nil
	}
	switch len(s.platforms) {
	case 0: // not only where the place takes no index, or the name could be wrong
		s.platforms = []oci.Platform{{OS: "linux", Architecture: "amd64"}}
	case 1:
	default:
		return "", oci.Usage(fmt.Sprintf("%s: with {arch} choose one platform", t))
	}
	return s.platforms[0].Architecture + s.platforms[0].Variant, nil
}

// mayCollide reports whether two images of the source could get one name at the
// destination.
func (s *session) mayCollide() bool {
	f, u := s.app.names, s.dest.uri
	short := f.repoTags == "basename" || u.Option("repo_tags") == "basename"
	return s.images.Bulk() && (f.stripNamespace || f.template != "" || short || s.source.uri.Scheme != "quay")
}

// naming says how images are named at the destination.
func (s *session) naming() (func(oci.Item) (oci.Ref, error), error) {
	name, err := s.names()
	if err != nil || s.pins == nil {
		return name, err
	}
	return func(i oci.Item) (oci.Ref, error) {
		if err := s.pins.Failure(i.Ref); err != nil {
			return i.Ref, err
		}
		return name(i)
	}, nil
}

func (s *session) names() (func(oci.Item) (oci.Ref, error), error) {
	f := s.app.names
	if s.dest.uri.Scheme != "registry" {
		if f.stripNamespace || f.template != "" {
			return nil, oci.Usage(fmt.Sprintf("--strip-namespace and --dest-template name images at a registry, not in %s", s.dest.uri))
		}
		return s.memberName()
	}
	host, path, _ := strings.Cut(strings.TrimSuffix(s.dest.uri.Rest, "/"), "/")
	prefix := path == "" || oci.ValidRepository(path)
	if s.images.Bulk() && (prefix || !s.holds()) || path == "" || f.stripNamespace || f.template != "" {
		if !prefix {
			return nil, oci.Usage(fmt.Sprintf("%s: many images go to registry://HOST[/PREFIX], and %q is no prefix", s.dest.uri, path))
		}
		template, err := backend.ParseTemplate(f.template)
		if err != nil {
			return nil, err
		}
		arch, err := s.settle(template)
		return bulk.Naming{Registry: host, Prefix: path, StripNamespace: f.stripNamespace, Template: f.template, Arch: arch}.Name, err
	}
	ref, err := oci.ParseRef(path, host)
	if err != nil {
		return nil, err
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	return func(oci.Item) (oci.Ref, error) { return ref, nil }, nil
}

// holds reports whether the source is a layout, an archive or a folder: what of it
// goes to a name for one image need not be named, if there is but one.
func (s *session) holds() bool { return s.sourceKind.Path }

// memberName names images in a layout or folder: as at the source, or as the
// URI says. A path with placeholders takes what it needs of the source's name.
func (s *session) memberName() (func(oci.Item) (oci.Ref, error), error) {
	if _, ok := s.target.(oci.Spread); ok {
		return pinnedName, nil
	}
	if !s.destKind.Path {
		return s.daemonName()
	}
	_, member, err := s.dest.uri.Path()
	if err != nil {
		return nil, err
	}
	if member == "" {
		return ownName, nil
	}
	if s.images.Bulk() && !s.holds() {
		return nil, oci.Usage(fmt.Sprintf("%s names one image, but %s stands for many; leave :%s away", s.dest.uri, s.source.uri, member))
	}
	ref, ok := layout.ParseName(member) // as the place itself does
	if !ok {
		return nil, oci.Usage(fmt.Sprintf("%s: %q is no image name: write PATH:[host/]repository:tag", s.dest.uri, member))
	}
	return func(oci.Item) (oci.Ref, error) { return ref, nil }, nil
}

// daemonName names images in a daemon: as the URI says, which need not have a host.
func (s *session) daemonName() (func(oci.Item) (oci.Ref, error), error) {
	rest := s.dest.uri.Rest
	if rest == "" {
		return ownName, nil
	}
	if s.images.Bulk() && !s.holds() {
		return nil, oci.Usage(fmt.Sprintf("%s names one image, but %s stands for many; leave %s away", s.dest.uri, s.source.uri, rest))
	}
	ref, err := oci.ParseRef(rest, "")
	if err != nil {
		ref, err = oci.ParseRef(rest, "localhost")
		ref.Registry = ""
	}
	if err != nil {
		return ownName, nil //nolint:nilerr // the daemon took it
	}
	return func(oci.Item) (oci.Ref, error) { return ref, nil }, nil
}

// ownName leaves an image its name; the digest only if it has no tag.
func ownName(i oci.Item) (oci.Ref, error) {
	if i.Ref.Tag != "" {
		i.Ref.Digest = ""
	}
	return i.Ref, nil
}

// pinnedName leaves an image its name, and adds the digest.
func pinnedName(i oci.Item) (oci.Ref, error) {
	if i.Desc.Digest != "" {
		i.Ref.Digest = i.Desc.Digest
	}
	return i.Ref, nil
}
