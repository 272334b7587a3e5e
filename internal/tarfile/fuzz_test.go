package tarfile

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// FuzzOpen compares what is found with what a reader from front to back sees.
func FuzzOpen(f *testing.F) {
	f.Add(sample)
	f.Add(sample[:1500])
	f.Add(gzipped(sample))
	f.Add(claim("77777777777"))
	f.Add(sparseHeader())
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := Read(t.Context(), bytes.NewReader(raw), "fuzz")
		if err != nil {
			if !errors.Is(err, oci.ErrInvalid) && !errors.Is(err, oci.ErrTooLarge) && !errors.Is(err, oci.ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		defer a.Close()
		want := map[string][]byte{}
		if c, _ := sniff(raw[:min(len(raw), headSize)]); c == plain {
			tr := tar.NewReader(bytes.NewReader(raw))
			for h, err := tr.Next(); err == nil; h, err = tr.Next() {
				key, ok := clean(h.Name)
				if !ok || h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
					continue
				}
				delete(want, key)
				if kind(h) == tar.TypeReg {
					want[key], _ = io.ReadAll(tr)
				}
			}
		}
		for name := range a.Names() {
			m, err := a.Lookup(name)
			if err != nil {
				continue
			}
			got, err := io.ReadAll(m.Open())
			if err != nil || int64(len(got)) != m.Size {
				t.Errorf("%q: %d of %d bytes: %v", name, len(got), m.Size, err)
			}
			if body, ok := want[name]; ok && !bytes.Equal(got, body) {
				t.Errorf("%q: %d bytes, not the %d that a reader sees", name, len(got), len(body))
			}
		}
		for name := range want {
			if _, err := a.Lookup(name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}
