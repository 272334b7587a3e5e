package publish

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/quaymaster/quaymaster/oci"
)

// foreign are keys of pubtools-quay's push items, and of their metadata, that say
// nothing of what is pushed where: they may be there.
var foreign = []string{
	"arch", "claims_signing_key", "destination", "external_repos", "name", "origin", "product_name", "pull_data",
	"repos", "state", "v_r",
}

// document reads all items of a plan, and its defaults.
func (r *planReader) document(raw []byte) []*rawItem {
	root := r.plain(r.parseYAML(raw))
	if root == nil {
		return nil
	}
	list := root
	if _, ok := root.(ast.MapNode); ok {
		list = nil
		for _, p := range r.pairs(root, "plan") {
			if p.key.text == "items" {
				list = p.value
				continue
			}
			r.setting(p)
		}
		if list == nil {
			r.fault(placeOf(root), "it has no items")
			return nil
		}
	}
	r.opt.Namespace, r.opt.Registry = strings.Trim(r.opt.Namespace, "/"), strings.TrimRight(r.opt.Registry, "/")
	var err error
	if r.naming, err = parseNaming(r.opt.Names); err != nil {
		r.fault(place{}, "%v", err)
	}
	if r.opt.Namespace != "" && r.opt.Registry == "" {
		r.fault(place{}, "it has a namespace and no registry")
	}
	var items []*rawItem
	for i, n := range r.list(list, "items") {
		if i == maxDestinations {
			r.fault(placeOf(n), "more than %d items", maxDestinations)
			break
		}
		items = append(items, r.item(i+1, n))
	}
	return items
}

// setting reads a default for all items.
func (r *planReader) setting(p pair) {
	to := map[string]*string{
		"registry": &r.opt.Registry, "namespace": &r.opt.Namespace, "source_registry": &r.opt.SourceRegistry, "repo_names": &r.opt.Names,
	}[p.key.text]
	if to == nil {
		r.fault(p.key.at, "unknown key %q; there are items, registry, namespace, source_registry and repo_names", p.key.text)
		return
	}
	if value, ok := r.scalar(p.value, p.key.text); ok && *to == "" {
		*to = value.text
	}
}

// item reads the item number.
func (r *planReader) item(number int, n ast.Node) *rawItem {
	item := &rawItem{number: number, at: placeOf(n)}
	what := fmt.Sprintf("item %d", number)
	pairs := r.pairs(n, what)
	for _, p := range pairs {
		if p.key.text != "file_type" {
			continue
		}
		if t, ok := r.scalar(p.value, what+": file_type"); ok && t.text != "docker" {
			item.other = t.text
			return item // what others push has other keys
		}
	}
	for _, p := range pairs {
		switch p.key.text {
		case "metadata":
			for _, inner := range r.pairs(p.value, what+": metadata") {
				r.key(item, inner, what+": metadata", true)
			}
		default:
			r.key(item, p, what, false)
		}
	}
	if item.pullURL.at == (place{}) {
		r.fault(item.at, "%s: it has no pull_url", what)
	} else if item.pullURL.text == "" {
		return item // that was told
	} else if source, err := r.source(item.pullURL.text); err != nil {
		r.fault(item.pullURL.at, "%s: %v", what, err)
	} else {
		item.source = source
	}
	if len(item.tags) == 0 {
		r.fault(item.at, "%s: it has no tags", what)
	}
	return item
}

// source reads a pull_url.
func (r *planReader) source(text string) (oci.Ref, error) {
	for _, scheme := range []string{"registry://", "docker://"} {
		text = strings.TrimPrefix(text, scheme)
	}
	ref, err := oci.ParseRef(text, r.opt.SourceRegistry)
	if err == nil && ref.Reference() == "" {
		err = oci.Usage(fmt.Sprintf("%q names neither a tag nor a digest", text))
	}
	return ref, err
}

// key reads one key of an item, or of its metadata.
func (r *planReader) key(item *rawItem, p pair, what string, metadata bool) {
	key := p.key.text
	inner := what + ": " + key
	switch {
	case key == "pull_url":
		if item.pullURL.text != "" {
			r.fault(p.key.at, "%s: it is there twice", inner)
		}
		if item.pullURL, _ = r.scalar(p.value, inner); item.pullURL.text == "" {
			item.pullURL.at = p.key.at
		}
	case key == "tags":
		if item.tags != nil {
			r.fault(p.key.at, "%s: they are there twice", inner)
		}
		item.tags = r.tags(p.value, inner)
	case key == "kind" && !metadata:
		r.kind(item, p.value, inner)
	case key == "build" && metadata:
		if item.kind == "" && r.sourceImage(p.value) {
			item.kind = SourceImage
		}
	case key == "file_type" && !metadata: // it was looked at first
	case key == "errors" && !metadata:
		if r.isSet(p.value) {
			r.fault(p.key.at, "%s: it has errors of its own: %s", what, shown(p.value))
		}
	case slices.Contains(foreign, key):
	case slices.Contains([]string{"add_tags", "remove_tags", "tag_source", "archs", "exclude_archs", "new_method"}, key):
		r.fault(p.key.at, "%s: it is for the commands tag add and tag remove", inner)
	default:
		r.fault(p.key.at, "%s: unknown key %q", what, key)
	}
}

func (r *planReader) kind(item *rawItem, n ast.Node, what string) {
	s, ok := r.scalar(n, what)
	if !ok {
		return
	}
	item.kind = Kind(s.text)
	if !slices.Contains([]Kind{SourceImage, Single, Multiarch}, item.kind) {
		r.fault(s.at, "%s: %q; write source, single or multiarch", what, s.text)
	}
}

// tags reads the tags of an item: repository to list of tags.
func (r *planReader) tags(n ast.Node, what string) []rawTags {
	all := []rawTags{}
	for _, p := range r.pairs(n, what) {
		t, before := rawTags{repo: p.key}, len(r.faults)
		for _, tag := range r.list(p.value, what+": "+p.key.text) {
			if s, ok := r.scalar(tag, what+": "+p.key.text); ok {
				t.tags = append(t.tags, s)
			}
		}
		if len(t.tags) == 0 && len(r.faults) == before {
			r.fault(p.key.at, "%s: %s gets no tags", what, p.key.text)
		}
		all = append(all, t)
	}
	return all
}

// sourceImage reports whether build says that an item is an image of source code:
// extra.image.sources_for_nvr is set.
func (r *planReader) sourceImage(build ast.Node) bool {
	for _, key := range []string{"extra", "image", "sources_for_nvr"} {
		m, ok := r.plain(build).(ast.MapNode)
		if !ok {
			return false
		}
		build = nil
		for i := m.MapRange(); i.Next(); {
			if t := i.Key().GetToken(); t != nil && t.Value == key {
				build = i.Value()
			}
		}
		if build == nil {
			return false
		}
	}
	return r.isSet(build)
}
