package dir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// An expansion is what PATH/NAME.expanded says of the folder PATH/NAME beside the
// manifest file NAME.json: that it is ours, and which image's root file system it
// is. Nothing is in the folder itself but that.
type expansion struct {
	Config  string `json:"config"`  // the file
	Entries int64  `json:"entries"` // in the folder
	Whole   bool   `json:"whole"`   // false: it is being replaced
}

const maxExpansionSize = 1 << 20

// expandedName gives the folder for the image whose manifest file is file, and
// markName the file that vouches for it.
func expandedName(file string) string { return strings.TrimSuffix(file, ".json") }

func markName(file string) string { return expandedName(file) + ".expanded" }

// readExpansion says what is expanded beside file. An error matches
// [fs.ErrNotExist] if nothing of ours is.
func readExpansion(root *os.Root, file string) (expansion, error) {
	raw, _, err := safepath.ReadFile(root, markName(file), maxExpansionSize)
	if err != nil {
		return expansion{}, err
	}
	var e expansion
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("%s: %w: %w", markName(file), oci.ErrInvalid, err)
	}
	return e, nil
}

// mayExpand returns an error matching [oci.ErrRefused] if there is a folder in the
// way that isn't ours.
func (p *place) mayExpand(root *os.Root, file string) error {
	if !p.expand {
		return nil
	}
	fi, err := root.Lstat(expandedName(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := readExpansion(root, file); err == nil {
		return nil
	}
	if fi.IsDir() {
		names, err := fs.ReadDir(root.FS(), expandedName(file))
		if err != nil || len(names) == 0 {
			return err
		}
	}
	return oci.Refuse(fmt.Sprintf("%s/%s is there and no expansion of quaymaster's: remove it, or use another folder", p.path, expandedName(file)))
}

// mayExpandAny is mayExpand for an image whose manifest file isn't known for sure.
func (p *place) mayExpandAny(root *os.Root, c catalog, i id) error {
	files := []string{plainFile}
	if p.unique.Load() {
		plain, hashed := uniqueFiles(i)
		files = []string{c.file(i), plain, hashed}
	}
	for _, file := range files {
		if file == "" || safepath.Component(file) != nil {
			continue
		}
		if err := p.mayExpand(root, file); err != nil {
			return err
		}
	}
	return nil
}

// isExpanded reports whether the image of m, whose manifest file is file, is
// expanded, if it is to be.
func (p *place) isExpanded(root *os.Root, file string, m manifest) bool {
	if !p.expand {
		return true
	}
	e, err := readExpansion(root, file)
	if err != nil || !e.Whole || e.Config != m.Config {
		return false
	}
	fi, err := root.Lstat(expandedName(file))
	return err == nil && fi.IsDir()
}

// expandImage makes the image's expansion out of its layer.tar files.
func (d *destination) expandImage(ctx context.Context) error {
	if !d.place.expand {
		return nil
	}
	root, err := d.stage.Root()
	if err != nil {
		return safepath.Missing(err)
	}
	file, m, err := d.read(root)
	if err != nil {
		return err
	}
	if err := d.mayExpand(root, file); err != nil {
		return err
	}
	a, err := extract.Begin(ctx, filepath.Join(d.path, expandedName(file)))
	if err != nil {
		return err
	}
	d.sums = new(extract.Sums)
	e, err := d.fillExpansion(ctx, root, a.Dir(), m)
	if err == nil {
		err = d.placeExpansion(ctx, a, file, e)
	}
	return errors.Join(err, a.Close())
}

// fillExpansion extracts the layers of m, lowest first, into the folder dir.
func (d *destination) fillExpansion(ctx context.Context, root *os.Root, dir string, m manifest) (expansion, error) {
	raw, err := readConfig(root, m.Config)
	if err != nil {
		return expansion{}, err
	}
	ids, err := diffIDs(raw)
	if err != nil {
		return expansion{}, fmt.Errorf("%s: %w: %w", m.Config, oci.ErrInvalid, err)
	}
	var warned extract.Warnings
	for i, diffID := range ids {
		st, err := d.extractLayer(ctx, dir, diffID)
		if err != nil {
			return expansion{}, fmt.Errorf("expand layer %d: %w", i, err)
		}
		warned.Add(st.Warnings)
	}
	if lines := warned.Lines(); len(lines) > 0 {
		d.env.Warnf("%s: expanded %s: %s", d.path, d.ref.Tagged(), strings.Join(lines, "; "))
	}
	// Programs that run as root, and devices that anybody may write to, may be in an
	// image that nobody vouches for.
	if err := os.Chmod(dir, 0o700); err != nil {
		return expansion{}, err
	}
	tree, err := extract.Count(ctx, dir)
	return expansion{Config: m.Config, Entries: tree.Entries, Whole: true}, err
}

func (d *destination) extractLayer(ctx context.Context, dir string, diffID oci.Digest) (extract.Stats, error) {
	rc, err := d.open(ctx, layerPath(diffID), oci.Descriptor{Digest: diffID, Size: -1})
	if err != nil {
		return extract.Stats{}, err
	}
	defer rc.Close()
	return extract.Layer(ctx, dir, rc, extract.Options{Sums: d.sums})
}

// placeExpansion has e seen, in the place of what was there. In between, a mark
// says that the folder is ours, whatever happens.
func (d *destination) placeExpansion(ctx context.Context, a *extract.Aside, file string, e expansion) error {
	write := func(e expansion) error {
		raw, err := pythonJSON(e)
		if err != nil {
			return err
		}
		return d.stage.WriteFile(ctx, markName(file), raw)
	}
	if err := write(expansion{Config: e.Config}); err != nil {
		return err
	}
	if err := a.Place(true); err != nil {
		return err
	}
	return write(e)
}

// verifyExpansion looks at each entry, if the image is to be expanded: at types and
// sizes, with full at contents too. Of what an earlier run expanded, entries are
// counted.
func (d *destination) verifyExpansion(ctx context.Context, root *os.Root, file string, m manifest, full bool) error {
	if !d.place.expand {
		return nil
	}
	e, err := readExpansion(root, file)
	if err != nil {
		return safepath.Missing(err)
	}
	dir := expandedName(file)
	if !d.isExpanded(root, file, m) {
		return fmt.Errorf("%s: %w: it is no expansion of this image", dir, oci.ErrDigestMismatch)
	}
	var tree extract.Tree
	if at := filepath.Join(d.path, dir); d.sums != nil {
		tree, err = d.sums.Check(ctx, at, full)
	} else {
		tree, err = extract.Count(ctx, at)
	}
	if err == nil && tree.Entries != e.Entries {
		err = fmt.Errorf("%w: %d entries, %d were expanded", oci.ErrDigestMismatch, tree.Entries, e.Entries)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}
