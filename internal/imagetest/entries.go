package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"time"
)

// An Entry is an entry of a tar. Where its header leaves them out, the type is a
// file's, Mode 0o644 (0o755 of directories), and Size is that of Body.
type Entry struct {
	tar.Header
	Body string
}

// File is a regular file.
func File(name, body string) Entry { return Entry{tar.Header{Name: name}, body} }

// Dir is a directory.
func Dir(name string) Entry { return Entry{tar.Header{Name: name, Typeflag: tar.TypeDir}, ""} }

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}, ""}
}

// Hardlink is a hard link.
func Hardlink(name, target string) Entry {
	return Entry{tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}, ""}
}

// Tar makes a tar of entries, in their order.
func Tar(entries ...Entry) []byte {
	var raw bytes.Buffer
	tw := tar.NewWriter(&raw)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == tar.TypeXGlobalHeader { // which has PAXRecords alone
			must(tw.WriteHeader(&h))
			continue
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 0)
		}
		h.Size = int64(len(e.Body))
		must(tw.WriteHeader(&h))
		_, err := io.WriteString(tw, e.Body)
		must(err)
	}
	must(tw.Close())
	return raw.Bytes()
}

// Entries makes a gzip-ed OCI layer of entries, in their order.
func Entries(entries ...Entry) Layer { return Gzip(Tar(entries...)) }
