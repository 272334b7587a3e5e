package mounts

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

// mayMount reports whether the process may mount, as far as can be known.
func mayMount() bool {
	var data [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if os.Geteuid() != 0 || unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// tryOverlay tries in the folder dir what layers need of a file system.
func tryOverlay(dir string) error {
	attr := "trusted.overlay.opaque"
	if os.Geteuid() != 0 {
		attr = "user.overlay.opaque"
	}
	if err := unix.Lsetxattr(dir, attr, []byte("y"), 0); err != nil {
		return fmt.Errorf("%w: the file system takes no attribute %s, so opaque directories can't be written: %w", oci.ErrUnsupported, attr, err)
	}
	if err := unix.Mknod(filepath.Join(dir, "w"), unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("%w: no device 0:0 can be made there, so whiteouts can't be written: %w", oci.ErrUnsupported, err)
	}
	return nil
}

// tryUpper returns an error if what overlayfs is to write to can't be in dir.
func tryUpper(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	switch st.Type {
	case unix.OVERLAYFS_SUPER_MAGIC, unix.NFS_SUPER_MAGIC:
		return fmt.Errorf("%w: overlayfs can't be mounted with its upper folder on overlayfs or NFS; name a folder on a file system of a disk, or mount=false", oci.ErrUnsupported)
	}
	return nil
}

// bootID names the start of the machine.
func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

func ownerOf(fi fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// syncFS has all that was written to dir's file system on the disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// mountOverlay mounts p, whose paths are relative to dir.
func mountOverlay(dir string, p *plan) error {
	n := &names{dir: dir}
	defer n.close()
	err := mountNew(n, filepath.Join(dir, p.Target), p)
	if errors.Is(err, errOldKernel) {
		err = mountOld(n, filepath.Join(dir, p.Target), p)
	}
	return err
}

// errOldKernel says that the kernel lacks fsopen(2), or overlayfs's way to take
// layers one by one (6.5).
var errOldKernel = errors.New("the kernel is too old")

// fsopen is a variable for tests, whose kernel has it.
var fsopen = unix.Fsopen

const errNoSuchCall = unix.ENOSYS

// mountNew mounts by the system calls that take each option alone, so that there
// is no bound on all of them.
func mountNew(n *names, at string, p *plan) error {
	fd, err := fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, errNoSuchCall) || errors.Is(err, unix.EPERM) { // a sandbox may not know the call
		return errOldKernel
	}
	if err != nil {
		return fmt.Errorf("overlayfs: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigSetString(fd, "source", p.Source); err != nil {
		return told(fd, "source", err)
	}
	for i, l := range p.LowerDirs {
		err := n.use(l, func(name string) error { return unix.FsconfigSetString(fd, "lowerdir+", name) })
		if i == 0 && errors.Is(err, unix.EINVAL) {
			return errOldKernel
		}
		if err != nil {
			return told(fd, l, err)
		}
	}
	for key, dir := range map[string]string{"upperdir": p.UpperDir, "workdir": p.WorkDir} {
		if err := n.use(dir, func(name string) error { return unix.FsconfigSetString(fd, key, name) }); err != nil {
			return told(fd, dir, err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return told(fd, "overlayfs", err)
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return told(fd, "fsmount", err)
	}
	defer unix.Close(mount)
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "move_mount", Path: at, Err: err}
	}
	return nil
}

// told gives err with what the kernel says of it.
func told(fd int, what string, err error) error {
	buf := make([]byte, 4096)
	if n, readErr := unix.Read(fd, buf); readErr == nil && n > 0 {
		return fmt.Errorf("%s: %w (the kernel says: %s)", what, err, strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")))
	}
	return fmt.Errorf("%s: %w", what, err)
}

// mountOld mounts by mount(2), whose options have room in one page. The folders
// are named by descriptors, which is short and has no characters in it that mean
// something there.
func mountOld(n *names, at string, p *plan) error {
	lower := make([]string, len(p.LowerDirs))
	for i, l := range p.LowerDirs {
		name, err := n.byFD(l)
		if err != nil {
			return err
		}
		lower[i] = name
	}
	upper, err := n.byFD(p.UpperDir)
	if err != nil {
		return err
	}
	work, err := n.byFD(p.WorkDir)
	if err != nil {
		return err
	}
	data := "lowerdir=" + strings.Join(lower, ":") + ",upperdir=" + upper + ",workdir=" + work
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%w: %d layers are too many for this kernel's mount(2)", oci.ErrUnsupported, len(lower))
	}
	if err := unix.Mount(p.Source, at, "overlay", 0, data); err != nil {
		return fmt.Errorf("overlayfs: %w", err)
	}
	return nil
}

func unmount(at string) error {
	if err := unix.Unmount(at, 0); err != nil {
		return &fs.PathError{Op: "unmount", Path: at, Err: err}
	}
	return nil
}

// names are names of folders that a mount takes.
type names struct {
	dir string // they are in
	fds []int
}

// maxString is the most bytes that fsconfig(2) takes, its zero byte among them.
const maxString = 256

// use calls f with a name of folder rel: its path, which one sees in the list of
// mounts, unless that is long or has characters that overlayfs would take for more.
func (n *names) use(rel string, f func(name string) error) error {
	name := filepath.Join(n.dir, rel)
	if len(name) >= maxString || strings.ContainsAny(name, `\:,`) {
		var err error
		if name, err = n.byFD(rel); err != nil {
			return err
		}
	}
	return f(name)
}

// byFD names folder rel by a descriptor, which is open until close.
func (n *names) byFD(rel string) (string, error) {
	name := filepath.Join(n.dir, rel)
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: name, Err: err}
	}
	n.fds = append(n.fds, fd)
	return "/proc/self/fd/" + strconv.Itoa(fd), nil
}

func (n *names) close() {
	for _, fd := range n.fds {
		_ = unix.Close(fd) // it was only looked at
	}
}

// mountedAt says what is mounted at the folder at, the topmost if there is more.
func mountedAt(at, source string) (mounted, error) {
	at, err := filepath.EvalSymlinks(at)
	if err != nil {
		return mountNone, err
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mountNone, err
	}
	defer f.Close()
	is := mountNone
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlayfs lists all of its layers
	for lines.Scan() {
		// 36 35 98:0 /root /mountpoint options [tags] - type source options
		mount, fsys, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(mount), strings.Fields(fsys)
		if !ok || len(left) < 5 || len(right) < 2 || unescape(left[4]) != at {
			continue
		}
		is = mountOther
		if right[0] == "overlay" && right[1] == source {
			is = mountOurs
		}
	}
	return is, lines.Err()
}

// unescape undoes the kernel's \040 for a space and its like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
