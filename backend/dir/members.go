package dir

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/layout"
	"github.com/quaymaster/quaymaster/oci"
)

// A member is an image in a folder that is read.
type member struct {
	ref      oci.Ref // Repository is "" where it has no name that is one
	file     string  // the manifest file
	manifest manifest
	err      error // why manifest isn't known; what resolving it returns
}

// members lists the images that the catalog names; of a folder without one,
// those of its manifest files, as docker save writes them too. Lines are for the
// user. The error matches [oci.ErrUsage] if there is neither.
func members(ctx context.Context, root *os.Root, path string) (all []member, lines []string, err error) {
	raw, _, err := safepath.ReadFile(root, catalogFile, maxCatalogSize)
	switch {
	case err == nil:
		c, err := parseCatalog(raw)
		if err != nil {
			return nil, nil, err
		}
		all, lines = c.members(ctx, root)
	case errors.Is(err, fs.ErrNotExist):
		if all, err = uncatalogued(root); err != nil {
			return nil, nil, err
		}
		if len(all) == 0 {
			return nil, nil, oci.Usage(fmt.Sprintf("%s holds no images of dir://: it has neither %s nor %s", path, catalogFile, plainFile))
		}
	default:
		return nil, nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(all, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.ref.String(), b.ref.String()), cmp.Compare(a.file, b.file))
	})
	return all, lines, nil
}

// members reads the manifest file of each image. One that is another image's by
// now, as manifest.json is the last one's that was written, is left out.
func (c catalog) members(ctx context.Context, root *os.Root) (all []member, lines []string) {
	files := manifestFiles{root: root, read: map[string]manifestFile{}}
	for _, image := range slices.Sorted(maps.Keys(c)) {
		if ctx.Err() != nil {
			break
		}
		tags, _ := c[image].(map[string]any)
		for _, tag := range slices.Sorted(maps.Keys(tags)) {
			i := id{image, tag}
			file := c.file(i)
			if file == "" {
				continue // another program's
			}
			m := member{file: file}
			if m.manifest, m.err = c.manifestOf(files, i); errors.Is(m.err, errOther) {
				lines = append(lines, fmt.Sprintf("%s lists %s, but %v; it is left out", catalogFile, quoted(i), m.err))
				continue
			}
			var ok bool
			if m.ref, ok = m.manifest.ref(i); !ok {
				m.ref = oci.Ref{}
				lines = append(lines, fmt.Sprintf("the name %s is no reference; its image goes by its digest", quoted(i)))
			}
			all = append(all, m)
		}
	}
	return all, lines
}

// quoted gives i for messages.
func quoted(i id) string { return fmt.Sprintf("%.200q", i.String()) }

// errOther says that a manifest is of another image than the catalog says.
var errOther = errors.New("that is another image")

// manifestOf gives the manifest of i from the file that the catalog names.
func (c catalog) manifestOf(files manifestFiles, i id) (manifest, error) {
	file := c.file(i)
	list, err := files.get(file)
	if err != nil {
		return manifest{}, safepath.Missing(err)
	}
	var found []manifest
	for _, m := range list {
		if m.isOf(i) {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0 && len(list) > 0:
		return manifest{}, fmt.Errorf("%s is %.200q: %w", file, list[0].says(), errOther)
	case len(found) != 1:
		return manifest{}, fmt.Errorf("%s: %w: it has %d images of that name", file, oci.ErrInvalid, len(found))
	}
	if found[0].Source == nil && found[0].ImageName == "" {
		// It knows the last part of the name alone.
		for _, other := range c.users(file) {
			if other != i && found[0].isOf(other) {
				return manifest{}, fmt.Errorf("%s: %w: %s lists it as %s and as %s; which one it is can't be told", file, oci.ErrInvalid, catalogFile, quoted(i), quoted(other))
			}
		}
	}
	return found[0], nil
}

// manifestFiles are read once, however many images the catalog has in one.
type manifestFiles struct {
	root *os.Root
	read map[string]manifestFile
}

type manifestFile struct {
	list []manifest
	err  error
}

func (m manifestFiles) get(name string) ([]manifest, error) {
	f, ok := m.read[name]
	if !ok {
		f.list, f.err = readManifests(m.root, name)
		m.read[name] = f
	}
	return f.list, f.err
}

// uncatalogued lists the images of manifest.json and manifest-*.json by what
// they say of themselves.
func uncatalogued(root *os.Root) ([]member, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var all []member
	for _, e := range entries {
		name := e.Name()
		if name != plainFile && (!strings.HasPrefix(name, "manifest-") || !strings.HasSuffix(name, ".json")) {
			continue
		}
		list, err := readManifests(root, name)
		if err != nil {
			all = append(all, member{file: name, err: safepath.Missing(err)})
		}
		for _, m := range list {
			refs := m.refs()
			for _, ref := range refs {
				all = append(all, member{ref: ref, file: name, manifest: m})
			}
			if len(refs) == 0 {
				all = append(all, member{file: name, manifest: m})
			}
		}
	}
	return all, nil
}

// ref gives the name of the image that the catalog calls i: with the registry
// where our own target kept it, or where occystrap had one in the name (from
// docker save). false: i is no name.
func (m manifest) ref(i id) (oci.Ref, bool) {
	if m.Source != nil && m.isOf(i) {
		if ref, ok := layout.ParseName(m.Source.Reference); ok {
			return ref, true
		}
	}
	ref, ok := layout.ParseName(i.String())
	return ref, ok && ref.Repository != "" && ref.Tag == i.tag
}

// refs gives the names that m says it has.
func (m manifest) refs() []oci.Ref {
	if m.Source != nil {
		if ref, ok := layout.ParseName(m.Source.Reference); ok && ref.Repository != "" {
			return []oci.Ref{ref}
		}
	}
	var refs []oci.Ref
	for _, name := range m.RepoTags {
		if i := strings.LastIndexByte(name, ':'); m.ImageName != "" && i >= 0 {
			name = m.ImageName + name[i:]
		}
		if ref, ok := layout.ParseName(name); ok && ref.Repository != "" {
			refs = append(refs, ref)
		}
	}
	return refs
}

// readManifests reads a manifest file of any number of images. Errors are those
// of readManifest.
func readManifests(root *os.Root, name string) ([]manifest, error) {
	if err := safepath.Component(name); err != nil {
		return nil, err
	}
	raw, _, err := safepath.ReadFile(root, name, maxManifestSize)
	if err != nil {
		return nil, err
	}
	var list []manifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, oci.ErrInvalid, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w: it lists no images", name, oci.ErrInvalid)
	}
	return list, nil
}
