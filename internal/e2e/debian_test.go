package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/need"
)

// A tarball is one layer in the making.
type tarball struct {
	t   testing.TB
	raw bytes.Buffer
	w   *tar.Writer
}

func newTarball(t testing.TB) *tarball {
	b := &tarball{t: t}
	b.w = tar.NewWriter(&b.raw)
	return b
}

// add writes one entry. Where h doesn't say it: a name with a slash at the end
// is a folder's, one with a Linkname a symbolic link's, else a file's, and it is
// of 2023.
func (b *tarball) add(h tar.Header, body string) {
	b.t.Helper()
	if h.Typeflag == 0 {
		switch {
		case strings.HasSuffix(h.Name, "/"):
			h.Typeflag = tar.TypeDir
		case h.Linkname != "":
			h.Typeflag = tar.TypeSymlink
		}
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
	h.Size = int64(len(body))
	if err := b.w.WriteHeader(&h); err != nil {
		b.t.Fatalf("%s: %v", h.Name, err)
	}
	if _, err := b.w.Write([]byte(body)); err != nil {
		b.t.Fatalf("%s: %v", h.Name, err)
	}
}

func (b *tarball) dirs(names ...string) {
	for _, n := range names {
		b.add(tar.Header{Name: n + "/"}, "")
	}
}

func (b *tarball) link(name, target string) {
	b.add(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o755}, "")
}

func (b *tarball) layer() imagetest.Layer {
	if err := b.w.Close(); err != nil {
		b.t.Fatal(err)
	}
	return imagetest.Gzip(b.raw.Bytes())
}

// netRaw is a file's permission to use raw sockets, as `setcap cap_net_raw=ep`
// writes it (capabilities(7), VFS_CAP_REVISION_2): magic and effective bit, then
// permitted and inheritable, low and high.
var netRaw = string([]byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})

// tell is what the image runs: it prints all that the filters of its layers can
// change, apart from attributes; of these, what a capability is good for.
const tell = `#!/bin/sh
skip="( -path /proc -o -path /sys -o -path /dev -o -path /.dockerenv -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf -o -path /etc/mtab ) -prune -o"
find / -mindepth 1 $skip -type d -exec stat -c 'dir %A %u:%g %n' {} + | sort
find / -mindepth 1 $skip ! -type d -exec stat -c 'file %A %u:%g links=%h mtime=%Y size=%s %N' {} + | sort
find / $skip -type f -exec sha256sum {} + | sort -k 2
echo "colour $COLOUR"
su nobody -s /bin/sh -c '/caps/grep CapEff /proc/self/status'
`

const (
	longPath = "opt/" + "a-folder-with-a-name-of-fifty-characters-in-it-aaa/" + "a-folder-with-a-name-of-fifty-characters-in-it-bbb/" + "and-a-file-of-forty-four-characters-init.txt"
	longName = "opt/one-name-of-more-than-a-hundred-characters-which-does-not-fit-into-the-field-that-the-first-tars-had-for-it.txt"
)

// debianImage makes an image of files that Debian installed here, with all that
// layers can hold. It runs tell.
func debianImage(t testing.TB) imagetest.Image { return debianWith(t, sparseLayer(t)) }

// debianWith is debianImage with other layers below its last one in the place of
// the sparse file. Without any it has five layers, and can be saved by dockerd 20.10
// and podman 4.3: the tar that these make of a sparse file isn't the one that they
// were given.
func debianWith(t testing.TB, more ...imagetest.Layer) imagetest.Image {
	t.Helper()
	busybox, err := os.ReadFile(need.Program(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}

	base := newTarball(t)
	base.dirs("bin", "caps", "etc", "opt", "proc", "sys", "dev", "usr", "usr/share", "usr/share/doc", "var", "var/lib", "var/lib/app", "var/cache")
	base.add(tar.Header{Name: "tmp/", Mode: 0o1777}, "")
	base.add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(busybox))
	for _, applet := range strings.Fields("find sh sha256sum sort stat su") {
		base.link("bin/"+applet, "bin/busybox")
	}
	base.add(tar.Header{Name: "bin/true", Mode: 0o755}, tell) // the command of imagetest's images
	base.add(tar.Header{Name: "etc/passwd"}, "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
	base.add(tar.Header{Name: "etc/group"}, "root:x:0:\nnobody:x:65534:\n")
	base.add(tar.Header{Name: "etc/motd"}, "hello\n")
	base.add(tar.Header{Name: "etc/gone"}, "a later layer deletes it\n")
	base.add(tar.Header{Name: "var/lib/app/old"}, "a later layer hides it\n")
	base.add(tar.Header{Name: "var/cache/list.bin"}, strings.Repeat("cache", 1000))
	base.add(tar.Header{Name: "caps/grep", Mode: 0o755, Uname: "root", Gname: "root",
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": netRaw}}, string(busybox))

	docs := newTarball(t)
	addFiles(docs, "/usr/share/doc/busybox-static")

	odd := newTarball(t)
	odd.dirs(filepath.Dir(filepath.Dir(longPath)), filepath.Dir(longPath), "opt/données")
	odd.add(tar.Header{Name: longPath}, "a path of 150 characters\n")
	odd.add(tar.Header{Name: longName}, "a long name\n")
	odd.add(tar.Header{Name: "opt/données/naïve-日本語.txt", Uname: "jürgen"}, "no ASCII\n")
	odd.add(tar.Header{Name: "opt/setuid", Mode: 0o4755, Uid: 12, Gid: 34}, "a program\n")
	odd.add(tar.Header{Name: "opt/setgid/", Mode: 0o2775, Gid: 3_000_000}, "") // more than the first tars could say
	odd.add(tar.Header{Name: "opt/absolute", Linkname: "/etc/motd"}, "")
	odd.add(tar.Header{Name: "opt/dangling", Linkname: "../" + strings.Repeat("nowhere/", 20)}, "")
	odd.add(tar.Header{Name: "opt/fifo", Typeflag: tar.TypeFifo}, "")
	odd.add(tar.Header{Name: "opt/precise", ModTime: time.Unix(1650000000, 123456789), Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.xattr.user.comment": "kept, for: all=that"}}, "to the nanosecond\n")

	changes := newTarball(t)
	changes.dirs("etc")
	changes.add(tar.Header{Name: "etc/.wh.gone"}, "")
	changes.add(tar.Header{Name: "etc/motd", Mode: 0o600}, "hello again\n")
	changes.dirs("var/lib/app")
	changes.add(tar.Header{Name: "var/lib/app/.wh..wh..opq"}, "")
	changes.add(tar.Header{Name: "var/lib/app/new"}, "new\n")

	links := newTarball(t)
	links.link("bin/tac", "bin/busybox") // of a lower layer
	links.dirs("opt/links")
	links.add(tar.Header{Name: "opt/links/a", Mode: 0o755}, "one file of three names\n")
	links.link("opt/links/b", "opt/links/a")
	links.link("opt/links/c", "opt/links/a")

	layers := append([]imagetest.Layer{base.layer(), docs.layer(), odd.layer(), changes.layer()}, more...)
	return imagetest.New(imagetest.Linux, map[string]string{"maintainer": "nobody"}, append(layers, links.layer())...)
}

// addFiles adds a folder of this machine with all that is in it.
func addFiles(b *tarball, folder string) {
	b.t.Helper()
	err := filepath.WalkDir(folder, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		h := tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second)}
		var body []byte
		switch {
		case e.IsDir():
			h.Name += "/"
		case e.Type() == fs.ModeSymlink:
			h.Linkname, err = os.Readlink(name)
		case e.Type().IsRegular():
			body, err = os.ReadFile(name)
		default:
			err = fmt.Errorf("%s is a %v", name, e.Type())
		}
		if err == nil {
			b.add(h, string(body))
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// sparseLayer lets GNU tar make a layer of a file that is mostly holes, in its
// newer format: dockerd 20.10 refuses the entries of type S of the older.
func sparseLayer(t testing.TB) imagetest.Layer {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 500_000, 3 << 20} {
		if _, err := f.WriteAt([]byte("data\n"), at); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), need.Program(t, "tar"), "--create", "--sparse", "--format=posix", "--mtime=@1700000000",
		"--owner=0", "--group=0", "--mode=644", "--pax-option=delete=atime,delete=ctime", "--directory="+dir, "--transform=s,^,opt/,", "sparse.img")
	raw, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 1<<20 {
		t.Fatalf("tar made %d bytes of a sparse file", len(raw))
	}
	return imagetest.Gzip(raw)
}
