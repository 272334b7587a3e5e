package index

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

// A maker makes a list of entries.
type maker struct {
	base     *Index // gives all but the entries
	entries  []entry
	like     []*Index // whose bytes are kept if the result says the same; nil ones count for nothing
	opt      Options
	warnings []string
}

// make makes the list.
func (m *maker) make(changes []Change) (*Result, error) {
	mt, err := m.mediaType()
	if err != nil {
		return nil, err
	}
	made, err := m.write(mt)
	if err != nil {
		return nil, err
	}
	out := &Result{Index: *made, Changes: changes, Warnings: m.warnings}
	for _, ix := range m.like {
		same, err := m.same(made, ix)
		if err != nil {
			return nil, err
		}
		if same {
			out.Index = *ix
			return out, nil
		}
	}
	return out, nil
}

// isDocker reports whether a docker list can hold d.
func isDocker(d oci.Descriptor) bool {
	return strings.HasPrefix(d.MediaType, "application/vnd.docker.")
}

// mediaType gives the type of the list.
func (m *maker) mediaType() (oci.MediaType, error) {
	foreign := slices.IndexFunc(m.entries, func(e entry) bool { return !isDocker(e.Descriptor) })
	switch m.opt.Type {
	case "oci":
		return oci.MediaTypeIndex, nil
	case "docker":
		if foreign >= 0 {
			e := m.entries[foreign]
			return "", fmt.Errorf("%w: a docker list can't hold %s, which is %q", oci.ErrInvalid, e.Digest, e.MediaType)
		}
		return oci.MediaTypeDockerList, m.fitsDocker()
	case "":
	default:
		return "", fmt.Errorf("%w: no type of lists: %q (docker, oci)", oci.ErrUsage, m.opt.Type)
	}
	mt := m.base.Desc.MediaType
	if mt == oci.MediaTypeDockerList && foreign >= 0 {
		mt = oci.MediaTypeIndex
		e := m.entries[foreign]
		m.warnings = append(m.warnings, fmt.Sprintf("the list becomes an OCI index, since a docker list can't hold %s, which is %q", e.Digest, e.MediaType))
	}
	return mt, nil
}

// fitsDocker is an error if the list has what no registry looks at in a docker list.
func (m *maker) fitsDocker() error {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(m.base.Raw, &top); err != nil {
		return fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	}
	for _, key := range []string{"subject", "artifactType"} {
		if top[key] != nil {
			return fmt.Errorf("%w: a docker list can't have the %s that the source has", oci.ErrInvalid, key)
		}
	}
	return nil
}

// write makes the list of type mt anew.
func (m *maker) write(mt oci.MediaType) (*Index, error) {
	raws := make([][]byte, len(m.entries))
	for i, e := range m.entries {
		raws[i] = e.raw
	}
	edits := []jsonedit.Change{{Key: "manifests", Value: slices.Concat([]byte("["), bytes.Join(raws, []byte(",")), []byte("]"))}}
	if mt != m.base.Desc.MediaType {
		edits = append(edits, jsonedit.Change{Key: "mediaType", Value: jsonedit.Marshal(mt)})
	}
	raw, err := jsonedit.Set(m.base.Raw, edits...)
	if err != nil {
		return nil, err
	}
	if raw, err = styled(raw, m.opt.Style); err != nil {
		return nil, err
	}
	return Parse(mt, raw)
}

// styled gives raw, which is valid JSON, as style writes it.
func styled(raw []byte, style Style) ([]byte, error) {
	switch style {
	case Compact:
		var b bytes.Buffer
		err := json.Compact(&b, raw)
		return b.Bytes(), err
	case Pubtools:
		out := pubtools(raw, oci.MaxManifestSize)
		if len(out) > oci.MaxManifestSize {
			return nil, fmt.Errorf("the list in the style of %s: %w (limit %d)", style, oci.ErrTooLarge, oci.MaxManifestSize)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: no style of JSON: %q (pubtools)", oci.ErrUsage, style)
}

// same reports whether made says what ix says: equal entries, and all else equal. The
// order counts only where a platform stands twice.
func (m *maker) same(made, ix *Index) (bool, error) {
	if ix == nil || made.Desc.MediaType != ix.Desc.MediaType || len(made.raws) != len(ix.raws) {
		return false, nil
	}
	a, b := said(made.raws), said(ix.raws)
	if !m.ordered() {
		slices.Sort(a)
		slices.Sort(b)
	}
	if !slices.Equal(a, b) {
		return false, nil
	}
	x, err := rest(made.Raw)
	if err != nil {
		return false, err
	}
	y, err := rest(ix.Raw)
	return err == nil && maps.Equal(x, y), err
}

// ordered reports whether a platform stands twice: then the first is the one that
// clients take.
func (m *maker) ordered() bool {
	seen := map[string]bool{}
	for _, e := range m.entries {
		if e.key != "" && seen[e.key] {
			return true
		}
		seen[e.key] = true
	}
	return false
}

// said gives values in the one spelling that each has.
func said(values []json.RawMessage) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = spelling(v)
	}
	return out
}

// rest gives what a list says apart from its entries and its type.
func rest(raw []byte) (map[string]string, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	}
	out := map[string]string{}
	for key, v := range top {
		if key != "manifests" && key != "mediaType" {
			out[key] = spelling(v)
		}
	}
	return out, nil
}
