package safepath

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/quaymaster/quaymaster/oci"
)

// A View is the parsed content of one file that other processes replace (by
// rename): it is read again when the file is another. Name, Limit and Parse are
// set before use. It is safe for concurrent use.
type View[T any] struct {
	Name  string
	Limit int64 // most bytes that are read; over it is [oci.ErrTooLarge]
	Parse func(raw []byte) (T, error)

	mu     sync.Mutex
	value  T
	opened *os.File // the file of value: kept open, so that its inode can't become another's
	state  fs.FileInfo
}

// Get gives the content of the file beneath root as it is now. The value is
// shared by all who ask: it must not be changed. The error matches
// [fs.ErrNotExist] if there is no file.
func (v *View[T]) Get(root *os.Root) (T, error) {
	var none T
	file, fi, err := Open(root, v.Name)
	if err != nil {
		return none, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.opened != nil && os.SameFile(fi, v.state) && fi.Size() == v.state.Size() && fi.ModTime().Equal(v.state.ModTime()) {
		return v.value, file.Close()
	}
	value, err := v.read(file)
	if err != nil {
		return none, errors.Join(err, file.Close())
	}
	v.forget()
	v.value, v.opened, v.state = value, file, fi
	return value, nil
}

func (v *View[T]) read(file io.Reader) (T, error) {
	var none T
	raw, err := io.ReadAll(io.LimitReader(file, v.Limit+1))
	if err != nil {
		return none, err
	}
	if int64(len(raw)) > v.Limit {
		return none, fmt.Errorf("%s: %w: over %d bytes", v.Name, oci.ErrTooLarge, v.Limit)
	}
	return v.Parse(raw)
}

// Wrote spares the next Get its parsing: value is what Parse would make of raw,
// which the caller has just written to the file. The file is read back: if it
// isn't raw, value is forgotten.
func (v *View[T]) Wrote(root *os.Root, raw []byte, value T) error {
	file, fi, err := Open(root, v.Name)
	if err != nil {
		return err
	}
	same, err := holds(file, raw)
	if err != nil || !same {
		return errors.Join(err, file.Close())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget()
	v.value, v.opened, v.state = value, file, fi
	return nil
}

// holds reports whether want is all that r gives. It makes no second copy: want
// may be large.
func holds(r io.Reader, want []byte) (bool, error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > len(want) || !bytes.Equal(buf[:n], want[:n]) {
			return false, nil
		}
		want = want[n:]
		if err == io.EOF {
			return len(want) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// Close lets go of the file.
func (v *View[T]) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forget()
}

func (v *View[T]) forget() {
	if v.opened != nil {
		v.opened.Close()
		v.opened = nil
	}
}
