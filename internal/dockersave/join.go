package dockersave

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

const (
	block  = 512
	record = 10240 // the archive's size is a multiple of it
)

// WriteTo writes the archive of list: for each entry, in the order of their
// names, its config and its layers, each different one once, and manifest.json
// at the end. From file to file the system copies. What is written is no more
// in w; a second archive can't be made.
func (w *Writer) WriteTo(ctx context.Context, out io.Writer, list []Entry) error {
	list = slices.SortedFunc(slices.Values(list), byName)
	raw, err := encode(list)
	if err != nil {
		return err
	}
	j := &joiner{ctx: ctx, out: out, done: map[string]bool{}}
	for _, e := range list {
		for _, name := range append([]string{e.Config}, e.Layers...) {
			if err := j.add(w, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if err := j.member(ManifestFile, int64(len(raw)), bytes.NewReader(raw)); err != nil {
		return fmt.Errorf("%s: %w", ManifestFile, err)
	}
	end := 2*int64(block) + (record-(j.n+2*block)%record)%record
	return j.write(make([]byte, end))
}

// Manifest gives the manifest.json that WriteTo writes of list.
func Manifest(list []Entry) ([]byte, error) {
	return encode(slices.SortedFunc(slices.Values(list), byName))
}

// New reports whether the archive of list has anything that was put: else all of
// it was adopted.
func (w *Writer) New(list []Entry) bool {
	for _, e := range list {
		for _, name := range append([]string{e.Config}, e.Layers...) {
			if b := w.blob(blobOf(name)); b == nil || b.free != nil {
				return true
			}
		}
	}
	return false
}

// A joiner writes members one behind the other.
type joiner struct {
	ctx  context.Context
	out  io.Writer
	n    int64
	done map[string]bool
}

// add writes the config or layer that is called name, unless it is there.
func (j *joiner) add(w *Writer, name string) error {
	if j.done[name] {
		return nil
	}
	j.done[name] = true
	b := w.blob(blobOf(name))
	if b == nil {
		return oci.ErrNotFound
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	if err := j.member(name, b.size, r); err != nil {
		return err
	}
	if b.free != nil {
		b.free()
	}
	return nil
}

// blobOf is what configName and layerName made a name of.
func blobOf(name string) oci.Digest {
	hex := strings.TrimSuffix(strings.TrimSuffix(name, "/layer.tar"), ".json")
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		if len(hex) == 2*a.Size() {
			return digest.NewDigestFromEncoded(a, hex)
		}
	}
	return ""
}

// member writes a regular file.
func (j *joiner) member(name string, size int64, body io.Reader) error {
	head, err := header(name, size)
	if err != nil {
		return err
	}
	if err := j.write(head); err != nil {
		return err
	}
	if err := j.copy(body, size); err != nil {
		return err
	}
	return j.write(make([]byte, (block-size%block)%block))
}

// header gives the same bytes for the same name and size: USTAR, and PAX where
// that can't say it (over 8 GiB).
func header(name string, size int64) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0),
	})
	return b.Bytes(), err
}

func (j *joiner) write(p []byte) error {
	n, err := j.out.Write(p)
	j.n += int64(n)
	return err
}

// step is how much the system copies before ctx is asked.
const step = 64 << 20

// copy writes size bytes of body.
func (j *joiner) copy(body io.Reader, size int64) error {
	if s, ok := body.(*io.SectionReader); ok {
		from, off, inAFile := inFile(s)
		if to, ok := j.out.(*os.File); ok && inAFile {
			return j.files(to, from, off, size)
		}
	}
	buf := make([]byte, 128<<10)
	for left := size; left > 0; {
		if err := context.Cause(j.ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		if err := j.write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// files copies from file to file: [os.File.ReadFrom] has the system do it
// (copy_file_range, splice), and itself copies where that can't. Nothing else
// uses the place where from stands.
func (j *joiner) files(to, from *os.File, off, size int64) error {
	if _, err := from.Seek(off, io.SeekStart); err != nil {
		return err
	}
	for left := size; left > 0; {
		if err := context.Cause(j.ctx); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(left, step))
		j.n += n
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // the file was cut short since it was opened
		}
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}
