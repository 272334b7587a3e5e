package mounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/extract"
	"github.com/quaymaster/quaymaster/internal/spool"
	"github.com/quaymaster/quaymaster/internal/stage"
	"github.com/quaymaster/quaymaster/oci"
)

// What may become of a layer that comes.
type turn int

const (
	turnNow   turn = iota // it is extracted as it comes
	turnLater             // it waits for those below it
	turnNever             // it is there already
)

// belowOf gives what stands for the layers below order[i].
func belowOf(order []oci.Digest, i int) oci.Digest {
	var b strings.Builder
	for _, d := range order[:i] {
		fmt.Fprintln(&b, d)
	}
	return digest.FromString(b.String())
}

// orderOf reads the layers of a config, lowest first. Of one that stands twice the
// upper counts: what the lower one has, the upper one has too, and what the
// lower one hides, it hides.
func orderOf(raw []byte) ([]oci.Digest, error) {
	var c struct {
		RootFS struct {
			DiffIDs []oci.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("config: %w: %w", oci.ErrInvalid, err)
	}
	last := map[oci.Digest]int{}
	for i, d := range c.RootFS.DiffIDs {
		if err := oci.ValidDigest(d); err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		last[d] = i
	}
	if len(last) > maxLayers {
		return nil, fmt.Errorf("%w: overlayfs takes %d layers, the image has %d", oci.ErrUnsupported, maxLayers, len(last))
	}
	order := []oci.Digest{}
	for i, d := range c.RootFS.DiffIDs {
		if last[d] == i {
			order = append(order, d)
		}
	}
	return order, nil
}

// putLayer takes a layer: it is extracted when those below it are.
func (d *destination) putLayer(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	if b.Desc.Digest == "" {
		b.Desc.Digest = b.DiffID
	}
	switch m, t := d.turnOf(b.Desc.Digest); t {
	case turnNever:
		return oci.Descriptor{MediaType: b.Desc.MediaType, Digest: m.DiffID, Size: m.Size}, nil
	case turnNow:
		desc, err := d.extract(ctx, b)
		if err = d.extracted(desc, err); err != nil {
			return oci.Descriptor{}, err
		}
		return desc, d.advance(ctx)
	}
	desc, file, err := d.spool(ctx, b)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if err := d.keep(desc, file); err != nil {
		return oci.Descriptor{}, err
	}
	return desc, d.advance(ctx)
}

// turnOf says what to do with layer id, "" if that isn't known. With turnNow the
// caller has the extraction, until it calls extracted.
func (d *destination) turnOf(id oci.Digest) (layerMark, turn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m, ok := d.done[id]; ok {
		return m, turnNever
	}
	if next, ok := d.next(); ok && next == id && !d.busy {
		d.busy = true
		return layerMark{}, turnNow
	}
	return layerMark{}, turnLater
}

// next gives the lowest layer that isn't extracted; false if they all are, or if
// the order isn't known. mu is held.
func (d *destination) next() (oci.Digest, bool) {
	for _, id := range d.order {
		if _, ok := d.done[id]; !ok {
			return id, true
		}
	}
	return "", false
}

// spool brings the tar of a layer into a file without a name.
func (d *destination) spool(ctx context.Context, b oci.Blob) (desc oci.Descriptor, file *os.File, err error) {
	file, err = spool.New(d.dir, "a layer that waits in "+d.path)
	if err != nil {
		return desc, nil, err
	}
	desc, err = stage.Attempt(ctx, b, func(r io.Reader) error {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := file.Truncate(0); err != nil {
			return err
		}
		_, err := io.Copy(file, r)
		return err
	})
	if err != nil {
		return desc, nil, errors.Join(err, file.Close())
	}
	return desc, file, nil
}

// keep has a spooled layer wait.
func (d *destination) keep(desc oci.Descriptor, file *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, done := d.done[desc.Digest]
	if done || d.waiting[desc.Digest].file != nil || d.closed {
		return file.Close()
	}
	d.waiting[desc.Digest] = spooled{file, desc}
	return nil
}

// advance extracts what waits and has all below it, unless somebody does that
// already, who will then come to it.
func (d *destination) advance(ctx context.Context) error {
	for {
		s, ok := d.take()
		if !ok {
			return nil
		}
		b := oci.Blob{Desc: s.desc, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(s.file, 0, s.desc.Size)), nil
		}}
		desc, err := d.extract(ctx, b)
		if err = d.extracted(desc, errors.Join(err, s.file.Close())); err != nil {
			return err
		}
	}
}

// take gives the layer whose turn it is, if it waits.
func (d *destination) take() (spooled, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, ok := d.next()
	s := d.waiting[next]
	if !ok || d.busy || s.file == nil || d.closed {
		return spooled{}, false
	}
	delete(d.waiting, next)
	d.busy = true
	return s, true
}

// extracted ends an extraction.
func (d *destination) extracted(desc oci.Descriptor, err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	d.idle.Broadcast()
	if err != nil {
		return oci.Wrap(err, "extract layer in", d.path, desc)
	}
	return nil
}

// extract puts the layer b in its place. Those below it are there.
func (d *destination) extract(ctx context.Context, b oci.Blob) (oci.Descriptor, error) {
	id := b.Desc.Digest
	d.mu.Lock()
	lower, index := []string{}, 0
	for i, o := range d.order {
		if index = i; o == id {
			break
		}
		lower = append([]string{filepath.Join(d.dir, layerOf(o))}, lower...)
	}
	m := layerMark{DiffID: id, Below: belowOf(d.order, index), Image: d.ref.Tagged()}
	d.mu.Unlock()
	part := filepath.Join(d.dir, folderOf(id), partName)
	sums := new(extract.Sums)
	var stats extract.Stats
	desc, err := stage.Attempt(ctx, b, func(r io.Reader) (err error) {
		sums.Reset()
		if err := d.prepare(id, part, lower); err != nil {
			return err
		}
		stats, err = extract.Layer(ctx, part, r, extract.Options{Overlay: true, Lower: lower, Sums: sums})
		return err
	})
	if err == nil {
		m.Size = desc.Size
		err = d.accept(ctx, part, &m)
	}
	if err != nil {
		if d.dir != "" {
			err = errors.Join(err, extract.Remove(part))
		}
		return oci.Descriptor{Digest: id}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done[id], d.sums[id] = m, sums
	d.warnings.Add(stats.Warnings)
	return desc, nil
}

// prepare makes the folder that a layer is extracted into. Its root looks as the one
// below does, unless the layer has an entry for it.
func (d *destination) prepare(id oci.Digest, part string, lower []string) error {
	err := d.root.Mkdir(folderOf(id), 0o755)
	if errors.Is(err, fs.ErrExist) {
		var fi fs.FileInfo
		if fi, err = d.root.Lstat(folderOf(id)); err == nil && !fi.IsDir() {
			err = oci.Refuse(fmt.Sprintf("%s/%s is no folder: remove it", d.path, folderOf(id))) // nor a link to one
		}
	}
	if err != nil {
		return err
	}
	if err := errors.Join(extract.Remove(part), d.discard(id)); err != nil {
		return err
	}
	if err := extract.MakeRoot(part); err != nil {
		return err
	}
	if len(lower) == 0 {
		return nil
	}
	return copyLooks(lower[0], part)
}

// accept gives a complete layer its name, and writes its mark.
func (d *destination) accept(ctx context.Context, part string, m *layerMark) error {
	tree, err := extract.Count(ctx, part)
	if err != nil {
		return err
	}
	m.Entries, m.Bytes = tree.Entries, tree.Bytes
	if m.Boot, err = bootID(); err != nil {
		return err
	}
	if err := os.Rename(part, filepath.Join(d.dir, layerOf(m.DiffID))); err != nil {
		return err
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, folderOf(m.DiffID), markName), raw, 0o644)
}
