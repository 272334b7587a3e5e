package diff

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// A pair is one image of each side, nil where a side has none.
type pair struct {
	name string // A's if it has one
	a, b *oci.Item
}

// pairs lists both sides and pairs their images, sorted by name. Where both are
// of one image that is the pair. It returns an error matching [oci.ErrUsage] for
// one image against many, and for two that have one name; and the errors of the
// listings, since what is missing there would pass for removed.
func (d *differ) pairs(ctx context.Context) ([]pair, error) {
	if d.a.Images.Bulk() != d.b.Images.Bulk() {
		one, many := "A", "B"
		if d.a.Images.Bulk() {
			one, many = many, one
		}
		return nil, oci.Usage(fmt.Sprintf("%s is one image, and %s may be many; name one on each side, or many", one, many))
	}
	var items [2][]oci.Item
	g, gctx := errgroup.WithContext(ctx)
	for i, side := range []Place{d.a, d.b} {
		g.Go(func() (err error) {
			items[i], err = list(gctx, side.Images)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	d.sum.A, d.sum.B = len(items[0]), len(items[1])
	if !d.a.Images.Bulk() && len(items[0]) == 1 && len(items[1]) == 1 {
		return []pair{{name(items[0][0]), &items[0][0], &items[1][0]}}, nil
	}
	a, err := index(items[0], name)
	if err != nil {
		return nil, err
	}
	b, err := index(items[1], name)
	if err != nil {
		return nil, err
	}
	return join(a, b), nil
}

func list(ctx context.Context, images backend.Images) (items []oci.Item, err error) {
	for item, err := range images.Discover(ctx) {
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// name gives REPOSITORY:TAG without host.
func name(item oci.Item) string {
	ref := item.Ref
	ref.Registry = ""
	if ref.Tag == "" && ref.Digest == "" {
		ref.Digest = item.Desc.Digest
	}
	return ref.Tagged()
}

func repository(item oci.Item) string { return item.Ref.Repository }

// index gives items by key.
func index(items []oci.Item, key func(oci.Item) string) (map[string]*oci.Item, error) {
	m := map[string]*oci.Item{}
	for i := range items {
		k := key(items[i])
		if first := m[k]; first != nil {
			return nil, oci.Usage(fmt.Sprintf("two images would go by the name %s: %s and %s", k, first.Ref, items[i].Ref))
		}
		m[k] = &items[i]
	}
	return m, nil
}

// join pairs by name. If no name is on both sides, and no side has two images of
// a repository, it pairs by repository: one tag of many against another.
func join(a, b map[string]*oci.Item) []pair {
	shared := false
	for k := range a {
		shared = shared || b[k] != nil
	}
	if !shared {
		byRepository := func(m map[string]*oci.Item) (map[string]*oci.Item, error) {
			var items []oci.Item
			for _, item := range m {
				if item.Ref.Repository == "" {
					return nil, oci.ErrNotFound // names of tags alone
				}
				items = append(items, *item)
			}
			return index(items, repository)
		}
		x, errA := byRepository(a)
		y, errB := byRepository(b)
		if errA == nil && errB == nil {
			a, b = x, y
		}
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []pair
	for k := range all {
		p := pair{a: a[k], b: b[k]}
		p.name = name(*cmp.Or(p.a, p.b))
		out = append(out, p)
	}
	slices.SortFunc(out, func(x, y pair) int { return cmp.Compare(x.name, y.name) })
	return out
}
