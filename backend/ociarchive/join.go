package ociarchive

import (
	"context"
	"os"

	"github.com/quaymaster/quaymaster/internal/tarfile"
)

// join writes an archive of list to f.
func join(ctx context.Context, f *os.File, list []member) error {
	w := tarfile.NewWriter(ctx, f)
	for _, m := range list {
		if err := m.write(w); err != nil {
			return err
		}
	}
	return w.Close()
}

func (m member) write(w *tarfile.Writer) error {
	if m.open == nil {
		return w.Folder(m.name)
	}
	r, err := m.open()
	if err != nil {
		return err
	}
	if err := w.File(m.name, r); err != nil {
		return err
	}
	if m.free != nil {
		m.free()
	}
	return nil
}
