package dir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	catalogFile = "catalog.json"
	plainFile   = "manifest.json"
)

// A catalog is catalog.json: image -> tag -> manifest file. What else others
// keep in it stays.
type catalog map[string]any

// parseCatalog reads catalog.json. Errors match [oci.ErrInvalid].
func parseCatalog(raw []byte) (catalog, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var c catalog
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", catalogFile, oci.ErrInvalid, err)
	}
	if c == nil || dec.More() {
		return nil, fmt.Errorf("%s: %w: it is no JSON object", catalogFile, oci.ErrInvalid)
	}
	return c, nil
}

// file gives the manifest file of i, "" if it isn't listed.
func (c catalog) file(i id) string {
	tags, _ := c[i.image].(map[string]any)
	name, _ := tags[i.tag].(string)
	return name
}

// users lists the images whose manifest file is file, on whatever file system:
// two names that differ by case may be one file.
func (c catalog) users(file string) []id {
	var all []id
	for image, v := range c {
		tags, _ := v.(map[string]any)
		for tag, name := range tags {
			if s, ok := name.(string); ok && strings.EqualFold(s, file) {
				all = append(all, id{image, tag})
			}
		}
	}
	slices.SortFunc(all, func(a, b id) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// A draft is a catalog that is being changed. What it was made of stays as it is.
type draft struct {
	catalog
	changed bool
}

func (c catalog) draft() *draft { return &draft{catalog: maps.Clone(c)} }

// set lists file as i's. The error matches [oci.ErrInvalid] if i's image is
// something else than a map of tags.
func (d *draft) set(i id, file string) error {
	tags, ok := d.catalog[i.image].(map[string]any)
	switch {
	case !ok && d.catalog[i.image] != nil:
		return fmt.Errorf("%s: %w: the entry of %s is no map of tags", catalogFile, oci.ErrInvalid, i.image)
	case d.file(i) == file:
		return nil
	case !ok:
		tags = map[string]any{}
	}
	tags = maps.Clone(tags)
	tags[i.tag] = file
	d.catalog[i.image], d.changed = tags, true
	return nil
}

// remove takes i off the catalog.
func (d *draft) remove(i id) {
	tags, _ := d.catalog[i.image].(map[string]any)
	tags = maps.Clone(tags)
	delete(tags, i.tag)
	d.catalog[i.image], d.changed = tags, true
	if len(tags) == 0 {
		delete(d.catalog, i.image)
	}
}

// maxFileName keeps manifest file names within what file systems take.
const maxFileName = 200

// uniqueFiles gives the names that i's manifest file may have: occystrap's, ""
// if that is too long; and one with a hash, where another image has that.
func uniqueFiles(i id) (plain, hashed string) {
	flat := strings.ReplaceAll(i.image, "/", "_") + "-" + strings.ReplaceAll(i.tag, "/", "_")
	sum := sha256.Sum256([]byte(i.String()))
	hashed = "-" + hex.EncodeToString(sum[:6]) + ".json"
	hashed = "manifest-" + flat[:min(len(flat), maxFileName-len("manifest-")-len(hashed))] + hashed
	if plain = "manifest-" + flat + ".json"; len(plain) > maxFileName {
		plain = ""
	}
	return plain, hashed
}
