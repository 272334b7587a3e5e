package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/dockersave"
	"github.com/quaymaster/quaymaster/internal/tarfile"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// images are those of an archive, or the one that ref selects.
type images struct {
	file    *tarfile.File
	archive *dockersave.Archive
	ref     string
	env     backend.Env
	list    func() listing
}

// listing is what an archive has, by reference.
type listing struct {
	all   []named
	byRef map[oci.Ref]named
	bad   error // why there are images that aren't listed
}

func newImages(f *tarfile.File, a *dockersave.Archive, ref string, env backend.Env) *images {
	m := &images{file: f, archive: a, ref: ref, env: env}
	m.list = sync.OnceValue(m.read)
	return m
}

// named is an image under one of its names.
type named struct {
	ref   oci.Ref
	image *dockersave.Image
}

func (m *images) Bulk() bool { return m.ref == "" }

// Discover lists the images by reference, each under all of its names. One
// without a name goes by the digest of its config. Digests of manifests, which
// are made up, are given where no layer has to be read for them.
func (m *images) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		l := m.list()
		all, bad := l.all, l.bad
		m.warn()
		if m.ref != "" {
			one, err := pick(all, m.ref)
			if err != nil {
				yield(oci.Item{}, oci.Wrap(errors.Join(err, bad), "list archive", m.archive.Path(), oci.Descriptor{}))
				return
			}
			all, bad = []named{one}, nil
		}
		for _, n := range all {
			if err := context.Cause(ctx); err != nil {
				yield(oci.Item{}, err)
				return
			}
			if n.image.Renamed() {
				m.env.Warnf("%s: the config %.200q of %s has other bytes than its name says; it goes by its own digest", m.archive.Path(), n.image.Entry.Config, n.ref)
			}
			item := oci.Item{Ref: n.ref, Bytes: n.image.Bytes()}
			item.Desc, _ = n.image.Known()
			if !yield(item, nil) {
				return
			}
		}
		if bad != nil {
			yield(oci.Item{}, oci.Wrap(bad, "list archive", m.archive.Path(), oci.Descriptor{}))
		}
	}
}

// read lists the images. One that has neither a name nor a config that can be read
// can't be listed, which keeps nobody from the others.
func (m *images) read() listing {
	l := listing{byRef: map[oci.Ref]named{}}
	add := func(n named) {
		if _, ok := l.byRef[n.ref]; !ok {
			l.byRef[n.ref] = n
			l.all = append(l.all, n)
		}
	}
	for _, i := range m.archive.Images {
		for _, ref := range i.Names {
			add(named{ref, i})
		}
		if len(i.Names) > 0 {
			continue
		}
		if id, err := i.ID(); err == nil {
			add(named{oci.Ref{Digest: id}, i})
		} else if l.bad == nil {
			l.bad = err
		}
	}
	slices.SortFunc(l.all, func(a, b named) int { return cmp.Compare(a.ref.String(), b.ref.String()) })
	return l
}

// most is how many names a message holds, or a run tells.
const most = 5

func (m *images) warn() {
	for n, name := range m.archive.Unreadable {
		if n == most {
			m.env.Warnf("%s: and %d more names are no references", m.archive.Path(), len(m.archive.Unreadable)-most)
			return
		}
		m.env.Warnf("%s: the name %.200q is no reference", m.archive.Path(), name)
	}
}

// pick gives the image that name means: a full reference, as docker completes it
// or with any registry, the digest of a config, or a tag that one image has.
// Errors match [oci.ErrNotFound], or [oci.ErrUsage] for a name that several have.
func pick(list []named, name string) (named, error) {
	want, ok := layout.ParseName(name)
	whole := want
	if want.Repository == "" { // a tag; perhaps a repository
		whole = oci.Ref{Repository: want.Tag}
	}
	rules := []func(named) bool{
		func(n named) bool { return n.ref.String() == name },
		func(n named) bool { return ok && dockersave.Normal(n.ref) == dockersave.Normal(whole) },
		func(n named) bool {
			full := dockersave.Normal(whole)
			return ok && whole.Registry == "" && n.ref.Repository == whole.Repository && n.ref.Tag == full.Tag
		},
		func(n named) bool {
			id, err := n.image.ID()
			return err == nil && string(id) == name
		},
		func(n named) bool { return n.ref.Tag == name },
	}
	for _, matches := range rules {
		var found []named
		for _, n := range list {
			if matches(n) && !slices.ContainsFunc(found, func(f named) bool { return f.image == n.image }) {
				found = append(found, n)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		return named{}, oci.Usage(fmt.Sprintf("%q means several images: %s", name, few(found)))
	}
	return named{}, fmt.Errorf("%q: %w: there is %s", name, oci.ErrNotFound, few(list))
}

// few names at most five images.
func few(list []named) string {
	var names []string
	for _, n := range list[:min(len(list), most)] {
		names = append(names, n.ref.String())
	}
	s := strings.Join(names, ", ")
	if n := len(list) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// Source gives the image that item names.
func (m *images) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	n, ok := m.list().byRef[item.Ref]
	if !ok {
		var err error
		if n, err = pick(m.list().all, item.Ref.String()); err != nil {
			return nil, oci.Wrap(err, "open image in", m.archive.Path(), oci.Descriptor{})
		}
	}
	return n.image, nil
}

func (m *images) Close() error { return m.file.Close() }
