package tarfile

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// What tar pads to: headers and bodies, and the archive.
const (
	block  = 512
	record = 20 * block
)

// A Writer writes an archive, of which the same members in the same order give
// the same bytes: USTAR, and PAX where that can't say a size (over 8 GiB), time
// and owner 0.
type Writer struct {
	ctx context.Context
	out io.Writer
	n   int64
}

// NewWriter gives a writer to out, which ends with ctx.
func NewWriter(ctx context.Context, out io.Writer) *Writer { return &Writer{ctx: ctx, out: out} }

// Folder writes a folder. name ends with a slash.
func (w *Writer) Folder(name string) error {
	return w.named(name, w.header(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}))
}

// File writes a regular file that holds all of body. From a file to a file the
// system copies.
func (w *Writer) File(name string, body *io.SectionReader) error {
	err := w.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: body.Size(), Mode: 0o644})
	if err == nil {
		err = w.body(body)
	}
	if err == nil {
		err = w.write(make([]byte, (block-body.Size()%block)%block))
	}
	return w.named(name, err)
}

// Close writes the end marker, and zeros up to what tar pads archives to. It
// leaves out open.
func (w *Writer) Close() error {
	return w.write(make([]byte, 2*block+(record-(w.n+2*block)%record)%record))
}

func (w *Writer) named(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (w *Writer) header(h *tar.Header) error {
	h.ModTime = time.Unix(0, 0)
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return err
	}
	return w.write(b.Bytes())
}

func (w *Writer) write(p []byte) error {
	n, err := w.out.Write(p)
	w.n += int64(n)
	return err
}

func (w *Writer) body(body *io.SectionReader) error {
	outer, off, size := body.Outer()
	if from, ok := outer.(*os.File); ok {
		if to, ok := w.out.(*os.File); ok {
			return w.copyFile(to, from, off, size)
		}
	}
	buf := make([]byte, 128<<10)
	for left := size; left > 0; {
		if err := context.Cause(w.ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return cut(err)
		}
		if err := w.write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// step is how much the system copies before ctx is asked.
const step = 64 << 20

// copyFile copies from file to file: [os.File.ReadFrom] has the system do it
// (copy_file_range, splice), and copies itself where that can't. Files without a
// name and archives are read by offset, so nothing else uses the place where from
// stands.
func (w *Writer) copyFile(to, from *os.File, off, size int64) error {
	if _, err := from.Seek(off, io.SeekStart); err != nil {
		return err
	}
	for left := size; left > 0; {
		if err := context.Cause(w.ctx); err != nil {
			return err
		}
		n, err := io.CopyN(to, from, min(left, step))
		w.n += n
		if err != nil {
			return cut(err)
		}
		left -= n
	}
	return nil
}

// cut is for a file that was cut short since it was opened.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
