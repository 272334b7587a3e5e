package mounts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/lockfile"
	"github.com/quaymaster/quaymaster/internal/runspec"
	"github.com/quaymaster/quaymaster/internal/safepath"
	"github.com/quaymaster/quaymaster/oci"
)

// A folder is the place of one image on the disk. Nothing is made before begin.
type folder struct {
	*place
	dir  string // absolute, without links; "" as long as there is none
	root *os.Root
	plan *plan // that was there; nil if none

	lock *lockfile.Lock // held from begin on
	made []string       // folders that weren't there, the nearest first
}

var ourNames = []string{planName, runspec.ImageConfig, runspec.File, lockName, rootfsName, upperName, workName, linksName, emptyName}

// probeName begins the name of a folder in which is tried what the file system can.
const probeName = ".probe-"

// isTemp reports whether a killed process may have left name.
func isTemp(name string) bool {
	return slices.ContainsFunc([]string{probeName, "." + planName, "." + runspec.ImageConfig, "." + runspec.File}, func(p string) bool { return strings.HasPrefix(name, p) })
}

var hexRE = regexp.MustCompile(`^[0-9a-f]{64,128}$`)

// look opens the folder if it is there. The error matches [oci.ErrRefused] if it
// has what isn't ours, or another image than image.
func (f *folder) look(image string) error {
	dir, err := filepath.EvalSymlinks(f.abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.root == nil {
		if f.root, err = os.OpenRoot(dir); err != nil {
			return err
		}
		f.dir = dir
	}
	if f.plan, err = readPlan(f.root); err != nil {
		return err
	}
	if f.plan != nil {
		if f.plan.Image != image {
			return oci.Refuse(fmt.Sprintf("%s has the image %s: name another folder, or unmount %s/%s and remove it", f.path, f.plan.Image, f.path, rootfsName))
		}
		return nil
	}
	names, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, n := range names {
		if !slices.Contains(ourNames, n.Name()) && !(n.IsDir() && hexRE.MatchString(n.Name())) && !isTemp(n.Name()) {
			return oci.Refuse(fmt.Sprintf("%s isn't empty (it has %q); name another folder", f.path, n.Name()))
		}
	}
	return nil
}

// begin makes the folder ready to be written: it is there, locked against other
// processes, and what a killed one left half done is gone.
func (f *folder) begin(ctx context.Context, image string) error {
	if f.lock != nil {
		return nil
	}
	if f.root == nil {
		for dir := f.abs; ; dir = filepath.Dir(dir) {
			if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
				break
			}
			f.made = append(f.made, dir)
		}
		if err := os.MkdirAll(filepath.Dir(f.abs), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(f.abs, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := f.look(image); err != nil {
			return err
		}
	}
	lock, err := lockfile.Acquire(ctx, f.root, lockName)
	if err != nil {
		return err
	}
	f.lock = lock
	if err := f.look(image); err != nil { // another process may have been here
		return err
	}
	if err := f.root.Chmod(".", 0o700); err != nil { // it may have been there
		return err
	}
	if err := f.sweep(); err != nil {
		return err
	}
	if f.plan != nil {
		return nil
	}
	return f.probe()
}

// sweep removes layers that aren't complete. What the folder of a layer has beside
// it isn't ours and stays.
func (f *folder) sweep() error {
	names, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, n := range names {
		name := filepath.Join(f.dir, n.Name())
		switch {
		case n.IsDir() && hexRE.MatchString(n.Name()):
			name = filepath.Join(name, partName)
		case !isTemp(n.Name()):
			continue
		}
		if err := extract.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// probe tries what the layers need of the file system.
func (f *folder) probe() error {
	dir, err := os.MkdirTemp(f.dir, probeName)
	if err != nil {
		return err
	}
	err = tryOverlay(dir)
	if f.mount && err == nil {
		err = tryUpper(f.dir)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// close lets go of the folder, and removes it if it is empty and wasn't there.
func (f *folder) close() error {
	var err error
	if f.lock != nil {
		err = f.lock.Remove()
		f.lock = nil
	}
	if f.root != nil {
		err = errors.Join(err, f.root.Close())
		f.root = nil
	}
	for _, dir := range f.made {
		if os.Remove(dir) != nil { // it is used
			break
		}
	}
	f.made = nil
	return err
}

// write writes a file durably, as JSON if it is no bytes.
func (f *folder) write(name string, content any) error {
	raw, ok := content.([]byte)
	if !ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // the command is to be read
		enc.SetIndent("", "    ")
		if err := enc.Encode(content); err != nil {
			return err
		}
		raw = b.Bytes()
	}
	return renameio.WriteFile(filepath.Join(f.dir, name), raw, 0o644)
}

// mark gives what vouches for layer d; false if nothing does.
func (f *folder) mark(d oci.Digest, image string) (layerMark, bool, error) {
	if f.root == nil {
		return layerMark{}, false, nil
	}
	fi, err := f.root.Lstat(layerOf(d))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
		return layerMark{}, false, nil
	}
	if err != nil {
		return layerMark{}, false, err
	}
	if m, ok := f.plan.layer(d); ok {
		return m, true, nil
	}
	raw, _, err := safepath.ReadFile(f.root, path.Join(folderOf(d), markName), maxMark)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, oci.ErrInvalid) || errors.Is(err, oci.ErrTooLarge) {
		return layerMark{}, false, nil
	}
	if err != nil {
		return layerMark{}, false, err
	}
	var m layerMark
	if json.Unmarshal(raw, &m) != nil {
		return m, false, nil
	}
	boot, err := bootID()
	return m, m.DiffID == d && m.Image == image && m.Boot == boot, err
}

// discard removes layer d.
func (f *folder) discard(d oci.Digest) error {
	return errors.Join(extract.Remove(filepath.Join(f.dir, layerOf(d))), extract.Remove(filepath.Join(f.dir, folderOf(d), markName)))
}
