package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// A tree is a root file system: what is at each path.
type tree map[string]node

// A node is one file, or what else has a path.
type node struct {
	kind     fs.FileMode // type and permissions
	uid, gid int
	size     int64  // of a file
	mtime    int64  // seconds
	content  string // digest of a file, target of a link, numbers of a device
	xattrs   string
	first    string // of the names of a file with several, the first; else ""
}

// A view is what two trees are compared by.
type view struct{ root, xattrs, links bool }

var (
	all      = view{true, true, true}
	apart    = view{true, true, false}  // a link from layer to layer isn't one on the disk
	exported = view{false, false, true} // docker export leaves out the root, and attributes other than capabilities
)

// lines tells the tree, a line a path, sorted.
func (tr tree) lines(v view) []string {
	var out []string
	for path, n := range tr {
		if path == "." && !v.root {
			continue
		}
		line := fmt.Sprintf("%q %v %d:%d size=%d %s", path, n.kind, n.uid, n.gid, n.size, n.content)
		if v.xattrs {
			line += " xattrs " + n.xattrs
		}
		if v.links {
			line += " first " + n.first
		}
		if !n.kind.IsDir() {
			line += fmt.Sprint(" mtime ", n.mtime)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// diskTree reads what is below root.
func diskTree(t *testing.T, root string) tree {
	t.Helper()
	tr := tree{}
	names := map[uint64]string{} // WalkDir goes by name
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		n := node{kind: info.Mode(), uid: int(st.Uid), gid: int(st.Gid), mtime: st.Mtim.Sec, xattrs: xattrsOf(t, path)}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case info.Mode().IsRegular():
			n.size = info.Size()
			var raw []byte
			if raw, err = os.ReadFile(path); err == nil {
				n.content = string(digest.FromBytes(raw))
			}
		case info.Mode()&fs.ModeSymlink != 0:
			n.content, err = os.Readlink(path)
		case info.Mode()&fs.ModeDevice != 0:
			n.content = fmt.Sprint(unix.Major(st.Rdev), ":", unix.Minor(st.Rdev))
		}
		if st.Nlink > 1 && !info.IsDir() {
			if names[st.Ino] == "" {
				names[st.Ino] = rel
			}
			n.first = names[st.Ino]
		}
		tr[rel] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// xattrsOf tells the extended attributes at path, but for overlayfs's own.
func xattrsOf(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out []string
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if key == "" || strings.HasPrefix(key, "trusted.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, key, value)
		if err != nil {
			t.Fatalf("%s: %s: %v", path, key, err)
		}
		out = append(out, fmt.Sprintf("%s=%x", key, value[:n]))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// umociTree is what umoci makes of the image v1 of a layout.
func umociTree(t *testing.T, layout string) tree {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "bundle")
	if out, err := exec.CommandContext(t.Context(), need.Program(t, "umoci"), "unpack", "--image", layout+":v1", bundle).CombinedOutput(); err != nil {
		t.Fatalf("umoci: %v\n%s", err, out)
	}
	return diskTree(t, filepath.Join(bundle, "rootfs"))
}

// exportedTree is what docker gives of a container of image that never ran.
func exportedTree(t *testing.T, d daemontest.Daemon, image string) tree {
	t.Helper()
	id := strings.TrimSpace(d.Do(t, "create", "--network=none", image))
	defer d.Do(t, "rm", id)
	tr := tree{}
	names := map[string][]string{} // of a file, by the one that comes first
	// Of these it makes the places where it will mount something.
	own := []string{".dockerenv", "dev/console", "dev/pts", "dev/shm", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
	for r := tar.NewReader(bytes.NewReader([]byte(d.Do(t, "export", id)))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimSuffix(h.Name, "/")
		if slices.Contains(own, path) {
			continue
		}
		n := node{kind: h.FileInfo().Mode(), uid: h.Uid, gid: h.Gid, mtime: h.ModTime.Unix(), content: h.Linkname}
		switch h.Typeflag {
		case tar.TypeReg:
			raw, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			n.size, n.content = int64(len(raw)), string(digest.FromBytes(raw))
		case tar.TypeLink:
			n = tr[h.Linkname]
			names[h.Linkname] = append(names[h.Linkname], path)
		}
		tr[path] = n
	}
	for first, rest := range names {
		group := append(rest, first)
		for _, path := range group {
			n := tr[path]
			n.first = slices.Min(group)
			tr[path] = n
		}
	}
	return tr
}

// unmount takes away what is mounted at path.
func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, 0); err != nil {
		t.Errorf("unmount %s: %v", path, err)
	}
}
