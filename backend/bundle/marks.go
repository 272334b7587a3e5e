package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// marks say what a bundle was made of. They are annotations of its config.json.
type marks struct {
	Reference string        // of the image
	Digest    oci.Digest    // of the manifest that it had where it came from
	Platform  *oci.Platform // chosen of the index with that digest
	Filters   string        // that were applied: [oci.AnnotationFilters]
	Options   string        // of the URI
	Config    oci.Digest    // of container-config.json
	Entries   int64         // in rootfs
}

func (m *marks) annotate(to map[string]string) error {
	set := func(name, value string) {
		if value != "" {
			to[runspec.Ours+name] = value
		}
	}
	set("reference", m.Reference)
	set("digest", string(m.Digest))
	set("filters", m.Filters)
	set("options", m.Options)
	set("config", string(m.Config))
	set("entries", strconv.FormatInt(m.Entries, 10))
	if m.Platform != nil {
		raw, err := json.Marshal(m.Platform)
		if err != nil {
			return err
		}
		set("platform", string(raw))
	}
	return nil
}

// marks gives the marks of the bundle that is there; false if there is no whole
// one of ours.
func (p *place) marks() (*marks, bool) {
	root, err := os.OpenRoot(p.path)
	if err != nil {
		return nil, false
	}
	defer root.Close()
	m, err := readMarks(root)
	return m, err == nil
}

func readMarks(root *os.Root) (*marks, error) {
	raw, _, err := safepath.ReadFile(root, runspec.File, maxConfigSize)
	if err != nil {
		return nil, safepath.Missing(err)
	}
	var spec struct{ Annotations map[string]string }
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", runspec.File, oci.ErrInvalid, err)
	}
	get := func(name string) string { return spec.Annotations[runspec.Ours+name] }
	m := &marks{Reference: get("reference"), Digest: oci.Digest(get("digest")), Filters: get("filters"), Options: get("options"), Config: oci.Digest(get("config"))}
	if s := get("platform"); s != "" {
		if err := json.Unmarshal([]byte(s), &m.Platform); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", runspec.File, oci.ErrInvalid, err)
		}
	}
	m.Entries, err = strconv.ParseInt(get("entries"), 10, 64)
	if err != nil || m.Config == "" {
		return nil, fmt.Errorf("%s: %w: it isn't of a bundle that quaymaster made", runspec.File, oci.ErrInvalid)
	}
	config, _, err := safepath.ReadFile(root, runspec.ImageConfig, maxConfigSize)
	if err != nil {
		return nil, safepath.Missing(err)
	}
	if digest.FromBytes(config) != m.Config {
		return nil, fmt.Errorf("%s: %w: the bytes are others", runspec.ImageConfig, oci.ErrDigestMismatch)
	}
	fi, err := root.Lstat(runspec.RootFS)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s: %w: it is no folder", runspec.RootFS, oci.ErrInvalid)
	}
	return m, err
}

// Verify reads both configs again, and looks at each entry of the root file
// system: that it is one that was extracted, with the same type and size, and that
// there are as many as there were. With full every file is read and compared with
// what was extracted. A bundle that an earlier run made may have been used since:
// its entries are counted, and more are fine.
func (d *destination) Verify(ctx context.Context, root oci.Descriptor, full bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return oci.Wrap(d.verify(ctx, full), "verify "+d.ref.String()+" in", d.path, root)
}

func (d *destination) verify(ctx context.Context, full bool) error {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return safepath.Missing(err)
	}
	defer root.Close()
	m, err := readMarks(root)
	if err != nil {
		return err
	}
	var tree extract.Tree
	rootfs := filepath.Join(d.path, runspec.RootFS)
	if d.done == nil {
		tree, err = extract.Count(ctx, rootfs)
	} else {
		if m.Config != d.done.Config || m.Reference != d.done.Reference || m.Digest != d.done.Digest {
			return fmt.Errorf("%s: %w: it is another image now; another process has changed it", runspec.File, oci.ErrDigestMismatch)
		}
		tree, err = d.sums.Check(ctx, rootfs, full)
	}
	if err == nil && (tree.Entries < m.Entries || d.done != nil && tree.Entries > m.Entries) {
		err = fmt.Errorf("%s: %w: %d entries, %d were extracted", runspec.RootFS, oci.ErrDigestMismatch, tree.Entries, m.Entries)
	}
	return err
}

// describe writes the two configs beside the root file system.
func (d *destination) describe(image *ocispec.Image, m *marks) error {
	spec, warned, err := d.how.Make(image, d.rootfs())
	if err != nil {
		return err
	}
	if err := m.annotate(spec.Annotations); err != nil {
		return err
	}
	for _, w := range warned {
		d.env.Warnf("%s: %s", d.path, w)
	}
	raw, err := runspec.Encode(spec)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(d.aside.Dir())
	if err != nil {
		return err
	}
	defer root.Close()
	return errors.Join(
		root.WriteFile(runspec.File, raw, 0o644),
		root.WriteFile(runspec.ImageConfig, d.config, 0o644),
		root.Chmod(".", 0o700))
}
