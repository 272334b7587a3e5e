package layout

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/oci"
)

// An Index is an index.json. Entries and keys that are not this program's stay
// as they are. It is not safe for concurrent use.
type Index struct {
	fields map[string]json.RawMessage // without "manifests"
	// entries are sorted by name, those without one at the end; equals stay in
	// the order of the file. An entry isn't changed, so that clones share it.
	entries []*entry
}

type entry struct {
	name string
	desc oci.Descriptor
	raw  json.RawMessage
}

func newEntry(d oci.Descriptor, raw []byte) *entry {
	return &entry{d.Annotations[RefAnnotation], d, raw}
}

func byName(e *entry, name string) int {
	if (e.name == "") != (name == "") {
		return cmp.Compare(name, e.name)
	}
	return cmp.Compare(e.name, name)
}

// find gives the entries called name: from i up to end.
func (x *Index) find(name string) (i, end int) {
	i, _ = slices.BinarySearchFunc(x.entries, name, byName)
	for end = i; end < len(x.entries) && x.entries[end].name == name; end++ {
	}
	return i, end
}

// NewIndex gives an index without entries.
func NewIndex() *Index {
	return &Index{fields: map[string]json.RawMessage{
		"schemaVersion": json.RawMessage("2"),
		"mediaType":     json.RawMessage(`"` + ocispec.MediaTypeImageIndex + `"`),
	}}
}

// ParseIndex reads an index.json. Anything that two readers could understand
// in two ways, and malformed digests and sizes, are errors matching
// [oci.ErrInvalid].
func ParseIndex(raw []byte) (*Index, error) {
	fail := func(err error) (*Index, error) {
		return nil, fmt.Errorf("%s: %w: %w", IndexFile, oci.ErrInvalid, err)
	}
	if err := oci.StrictJSON(raw); err != nil {
		return fail(err)
	}
	x := &Index{}
	if err := json.Unmarshal(raw, &x.fields); err != nil {
		return fail(err)
	}
	if v := string(x.fields["schemaVersion"]); v != "2" {
		return fail(fmt.Errorf("schemaVersion %q, want 2", v))
	}
	var list []json.RawMessage
	if m, ok := x.fields["manifests"]; ok {
		if err := json.Unmarshal(m, &list); err != nil {
			return fail(err)
		}
	}
	delete(x.fields, "manifests")
	for _, r := range list {
		var d oci.Descriptor
		if err := json.Unmarshal(r, &d); err != nil {
			return fail(err)
		}
		if err := oci.ValidDigest(d.Digest); err != nil {
			return fail(err)
		}
		if d.Size < 0 {
			return fail(fmt.Errorf("size %d of %s", d.Size, d.Digest))
		}
		maps.DeleteFunc(d.Annotations, private)
		x.entries = append(x.entries, newEntry(d, r))
	}
	slices.SortStableFunc(x.entries, func(a, b *entry) int { return byName(a, b.name) })
	return x, nil
}

// private reports whether an annotation is what the parts of this program tell
// each other of a descriptor ([oci.AnnotationSynthetic] and others): no file has a
// say in that.
func private(key, _ string) bool { return strings.HasPrefix(key, "io.quaymaster.") }

// Entries lists what the layout names, by name; what has none is at the end.
func (x *Index) Entries() []oci.Descriptor {
	all := make([]oci.Descriptor, len(x.entries))
	for i, e := range x.entries {
		all[i] = e.desc
	}
	return all
}

// Get gives the entry with ref name name.
func (x *Index) Get(name string) (oci.Descriptor, bool) {
	i, end := x.find(name)
	if i == end {
		return oci.Descriptor{}, false
	}
	return x.entries[i].desc, true
}

// Set lets name mean d, in place of what it meant before, and reports whether
// that changed anything. d's own annotations are kept, but for other names.
func (x *Index) Set(name string, d oci.Descriptor) (changed bool, err error) {
	annotations := maps.Clone(d.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, containerdName)
	maps.DeleteFunc(annotations, private)
	annotations[RefAnnotation] = name
	d.Annotations = annotations
	raw, err := json.Marshal(d)
	if err != nil {
		return false, err
	}
	i, end := x.find(name)
	if end == i+1 && bytes.Equal(x.entries[i].raw, raw) {
		return false, nil
	}
	x.entries = slices.Replace(x.entries, i, end, newEntry(d, raw))
	return true, nil
}

// Clone gives an index that can be changed without changing x.
func (x *Index) Clone() *Index {
	return &Index{fields: x.fields, entries: slices.Clone(x.entries)}
}

// Marshal gives the bytes of index.json: entries sorted by ref name, so that
// the order in which images were done doesn't show; those without a name keep
// their order, at the end.
func (x *Index) Marshal() ([]byte, error) {
	size := 0
	for _, e := range x.entries {
		size += len(e.raw) + 1
	}
	var b bytes.Buffer
	b.Grow(size + 1024) // it may be large, and is made anew for each write
	b.WriteByte('{')
	for _, key := range slices.Sorted(maps.Keys(x.fields)) {
		k, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s:%s,", k, x.fields[key])
	}
	b.WriteString(`"manifests":[`)
	for i, e := range x.entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.raw)
	}
	b.WriteString("]}")
	return b.Bytes(), nil
}
