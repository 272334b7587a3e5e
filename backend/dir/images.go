package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"sync"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// images are the images in a folder, or the one that ref selects.
type images struct {
	path string
	root *os.Root
	ref  string
	env  backend.Env

	rewritten sync.Once // a config that was written anew is told once
	mu        sync.Mutex
	list      []*image // as Discover last gave them
}

func source(ctx context.Context, u backend.URI, env backend.Env) (backend.Images, error) {
	path, ref, err := u.Path()
	if err != nil {
		return nil, err
	}
	fail := func(err error) (backend.Images, error) {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: there is no such folder", oci.ErrNotFound)
		}
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			err = p.Err
		}
		return nil, oci.Wrap(err, "open folder", path, oci.Descriptor{})
	}
	if fi, err := os.Stat(path); err == nil && !fi.IsDir() {
		return fail(oci.Usage(path + " is a file; name a folder"))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return fail(err)
	}
	m := &images{path: path, root: root, ref: ref, env: env}
	if err := m.read(ctx); err != nil {
		return fail(errors.Join(err, root.Close()))
	}
	return m, nil
}

func (m *images) Bulk() bool { return m.ref == "" }

// read lists the folder as it is now.
func (m *images) read(ctx context.Context) error {
	all, lines, err := members(ctx, m.root, m.path)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = nil
	for _, one := range all {
		i := &image{member: one, images: m}
		if one.ref.Repository == "" { // nothing names it but what it is
			d, _, err := i.made(ctx)
			if err != nil {
				i.err, d.Digest = err, ""
			}
			i.ref = oci.Ref{Digest: d.Digest}
		}
		m.list = append(m.list, i)
	}
	for i, line := range lines {
		if i == 5 {
			m.env.Warnf("%s: and %d more such lines", m.path, len(lines)-i)
			break
		}
		m.env.Warnf("%s: %s", m.path, line)
	}
	return nil
}

// Discover lists the images by reference. Their digests aren't known: a folder
// keeps no manifests.
func (m *images) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		items, bad := m.items()
		if m.ref != "" {
			one, err := layout.Pick(items, m.ref)
			if err != nil {
				yield(oci.Item{}, oci.Wrap(err, "list folder", m.path, oci.Descriptor{}))
				return
			}
			items = []oci.Item{one}
		}
		for _, item := range items {
			if err := context.Cause(ctx); err != nil {
				yield(oci.Item{}, err)
				return
			}
			if !yield(item, nil) {
				return
			}
		}
		if bad != nil && m.ref == "" {
			yield(oci.Item{}, oci.Wrap(bad, "list folder", m.path, oci.Descriptor{}))
		}
	}
}

// items gives the images that have a name or a digest, and why there are others.
func (m *images) items() (items []oci.Item, bad error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.list {
		if i.ref == (oci.Ref{}) {
			bad = errors.Join(bad, i.err)
			continue
		}
		items = append(items, oci.Item{Ref: i.ref, Bytes: i.bytes()})
	}
	return items, bad
}

// Source gives the image that item is.
func (m *images) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	i, err := m.find(func(i *image) bool { return i.ref == item.Ref })
	if err != nil {
		return nil, oci.Wrap(err, "read "+item.Ref.Tagged()+" in", m.path, oci.Descriptor{})
	}
	return i, nil
}

// find gives the first image of which is holds.
func (m *images) find(is func(*image) bool) (*image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.list {
		if is(i) {
			return i, nil
		}
	}
	return nil, oci.ErrNotFound
}

func (m *images) Close() error { return m.root.Close() }
