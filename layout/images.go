package layout

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// Images are the entries of a layout's index.json, or the one that Ref selects:
// what a layout is as the source of a run.
type Images struct {
	*Reader
	Ref  string                           // "" takes all
	Warn func(format string, args ...any) // tells the user one line; nil discards it
	// Done is what Close calls; nil does nothing.
	Done func() error
}

// Bulk reports whether the layout stands for any number of images.
func (m *Images) Bulk() bool { return m.Ref == "" }

// Discover lists the entries of index.json by reference. Names that are no
// references are told to the user and listed by digest.
func (m *Images) Discover(ctx context.Context) iter.Seq2[oci.Item, error] {
	return func(yield func(oci.Item, error) bool) {
		items, err := m.items()
		if err == nil && m.Ref != "" {
			var one oci.Item
			one, err = Pick(items, m.Ref)
			items = []oci.Item{one}
		}
		if err != nil {
			yield(oci.Item{}, oci.Wrap(err, "list layout", m.Path, oci.Descriptor{}))
			return
		}
		for _, item := range items {
			if err := context.Cause(ctx); err != nil {
				yield(oci.Item{}, err)
				return
			}
			item.Bytes = m.bytes(item)
			if !yield(item, nil) {
				return
			}
		}
	}
}

func (m *Images) items() ([]oci.Item, error) {
	items, unreadable, err := m.Items()
	warn := m.Warn
	if warn == nil {
		warn = func(string, ...any) {}
	}
	for i, name := range unreadable {
		if i == most {
			warn("%s: and %d more names are no references", m.Path, len(unreadable)-most)
			break
		}
		warn("%s: the name %.200q is no reference; its image goes by its digest", m.Path, name)
	}
	return items, err
}

// Source gives the layout, in which item's tag means item.
func (m *Images) Source(_ context.Context, item oci.Item) (oci.Source, error) {
	return &source{m.Reader, item}, nil
}

// Close calls Done.
func (m *Images) Close() error {
	if m.Done == nil {
		return nil
	}
	return m.Done()
}

// Items lists index.json by reference, then digest, and the names in it that
// are no references. Bytes of an item is -1. A layout without index.json is an
// error matching [oci.ErrInvalid].
func (r *Reader) Items() (items []oci.Item, unreadable []string, err error) {
	index, err := r.Index()
	if absent(err) {
		return nil, nil, fmt.Errorf("%w: it has no file %s", oci.ErrInvalid, IndexFile)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, d := range index.Entries() {
		ref, bad := Ref(d)
		if bad != "" {
			unreadable = append(unreadable, bad)
		}
		items = append(items, oci.Item{Ref: ref, Desc: d, IsIndex: oci.IsIndexType(d.MediaType), Bytes: -1})
	}
	slices.SortFunc(items, func(a, b oci.Item) int {
		return cmp.Or(cmp.Compare(a.Ref.String(), b.Ref.String()), cmp.Compare(a.Desc.Digest, b.Desc.Digest))
	})
	return slices.CompactFunc(items, func(a, b oci.Item) bool {
		return a.Ref == b.Ref && a.Desc.Digest == b.Desc.Digest
	}), unreadable, nil
}

// bytes sums the layers of a manifest; -1 of an index, and of one that can't be
// read: to say why is for whoever copies it.
func (r *Reader) bytes(item oci.Item) int64 {
	d, raw, err := r.Manifest(item.Desc)
	if err != nil {
		return -1
	}
	parsed, err := oci.ParseManifest(d.MediaType, raw)
	if err != nil || parsed.IsIndex() {
		return -1
	}
	return parsed.Bytes()
}

// Pick gives the item that name means: a ref name as it is written, a full
// reference, one without its host, a digest, or a tag that one image has. Errors match [oci.ErrNotFound],
// or [oci.ErrUsage] for a name that several have.
func Pick(items []oci.Item, name string) (oci.Item, error) {
	want, readable := ParseName(name)
	rules := []func(oci.Item) bool{
		func(i oci.Item) bool { return i.Desc.Annotations[RefAnnotation] == name },
		func(i oci.Item) bool { return readable && i.Ref == want },
		func(i oci.Item) bool {
			return readable && want.Registry == "" && want.Repository != "" && i.Ref.Repository == want.Repository && i.Ref.Tag == want.Tag
		},
		func(i oci.Item) bool { return string(i.Desc.Digest) == name || string(i.Ref.Digest) == name },
		func(i oci.Item) bool { return i.Ref.Tag == name },
	}
	for _, matches := range rules {
		var found []oci.Item
		for _, i := range items {
			if matches(i) && !slices.ContainsFunc(found, func(f oci.Item) bool { return f.Desc.Digest == i.Desc.Digest && f.Ref == i.Ref }) {
				found = append(found, i)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		return oci.Item{}, oci.Usage(fmt.Sprintf("%q means several images: %s", name, few(found)))
	}
	if len(items) == 0 {
		return oci.Item{}, fmt.Errorf("%q: %w: the layout is empty", name, oci.ErrNotFound)
	}
	return oci.Item{}, fmt.Errorf("%q: %w: there is %s", name, oci.ErrNotFound, few(items))
}

// most is how many names a message holds.
const most = 5

// few names at most five items.
func few(items []oci.Item) string {
	var names []string
	for _, i := range items[:min(len(items), most)] {
		s := i.Ref.Tagged()
		if i.Ref.Digest == "" && len(items) > 1 && items[0].Ref == items[1].Ref {
			s += "@" + string(i.Desc.Digest)
		}
		names = append(names, s)
	}
	s := strings.Join(names, ", ")
	if n := len(items) - most; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}
