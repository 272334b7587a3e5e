package extract

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quaymaster/quaymaster/oci"
)

func isDevice(flag byte) bool { return flag == tar.TypeChar || flag == tar.TypeBlock }

const paxAttr = "SCHILY.xattr."

// header gives in as umoci is to see it.
func (e *extractor) header(in *tar.Header) (*tar.Header, error) {
	h := *in
	h.PAXRecords = nil
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return nil, fmt.Errorf("%w: owner %d:%d", oci.ErrInvalid, h.Uid, h.Gid)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
	case '\x00', tar.TypeCont:
		h.Typeflag = tar.TypeReg
	case tar.TypeChar, tar.TypeBlock:
		switch {
		case e.rootless:
			e.stats.Warnings.count(warnDevice) // umoci makes it an empty file
		case e.opt.Overlay && h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
			e.stats.Warnings.count(warnHole)
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0, 0
		}
	default:
		return nil, fmt.Errorf("%w: unknown type %q", oci.ErrInvalid, h.Typeflag)
	}
	if e.rootless && h.Typeflag != tar.TypeLink && (h.Uid != 0 || h.Gid != 0) {
		e.stats.Warnings.count(warnOwner)
	}
	h.ModTime, h.AccessTime = sane(h.ModTime), sane(h.AccessTime)
	attrs := map[string]string{}
	for k, v := range in.PAXRecords {
		name, ok := strings.CutPrefix(k, paxAttr)
		if ok && h.Typeflag != tar.TypeLink && e.keeps(name, h.Typeflag) {
			attrs[name] = v
		}
	}
	h.Xattrs = attrs //nolint:staticcheck // umoci reads them here
	return &h, nil
}

// keeps reports whether an attribute can be set, and counts it if not.
func (e *extractor) keeps(attr string, flag byte) bool {
	space, _, _ := strings.Cut(attr, ".")
	switch {
	case slices.Contains([]string{"security.selinux", "system.nfs4_acl"}, attr):
		e.stats.Warnings.count(warnHostAttr)
		return false
	case space == "user" && flag != tar.TypeReg && flag != tar.TypeDir, // the kernel has none there
		e.rootless && (space == "security" || space == "trusted"),
		e.rootless && attr == "user.rootlesscontainers":
		e.stats.Warnings.count(warnAttr)
		return false
	}
	return true
}

// sane keeps times within what a file system takes: 1901 to 2446 (ext4).
func sane(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return t
	case t.Unix() < math.MinInt32:
		return time.Unix(math.MinInt32, 0)
	case t.Unix() > math.MaxUint32:
		return time.Unix(math.MaxUint32, 0)
	}
	return t
}

// takeAttrs takes the attributes off h: umoci would pass over those that can't be
// set, and say nothing.
func takeAttrs(h *tar.Header) map[string]string {
	attrs := h.Xattrs              //nolint:staticcheck // where header put them
	h.Xattrs = map[string]string{} //nolint:staticcheck // umoci adds its own
	return attrs
}

// setAttrs sets the attributes of rel, and counts what can't be there.
func (e *extractor) setAttrs(rel string, attrs map[string]string) error {
	for _, attr := range slices.Sorted(maps.Keys(attrs)) {
		err := e.fs.Lsetxattr(e.abs(rel), e.onDisk(attr), []byte(attrs[attr]), 0)
		if slices.ContainsFunc(noAttrs, func(e error) bool { return errors.Is(err, e) }) || errors.Is(err, unix.ENOSPC) && e.hasSpace() {
			e.stats.Warnings.count(warnAttr)
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "setxattr " + strconv.Quote(attr), Path: rel, Err: err}
		}
	}
	return nil
}

// noAttrs say that an attribute can't be: this user may not set it, this file
// system has none of its kind or size, or its value isn't one.
var noAttrs = []error{unix.EPERM, unix.ENOTSUP, unix.EOPNOTSUPP, unix.EINVAL, unix.ERANGE, unix.E2BIG}

// hasSpace reports whether the disk isn't full: some file systems say so too of
// attributes that are larger than they have.
func (e *extractor) hasSpace() bool {
	var st unix.Statfs_t
	return unix.Statfs(e.dir, &st) == nil && st.Bavail > 256
}

// onDisk gives an attribute's name where it means nothing to overlayfs, which
// shows it by its own name.
func (e *extractor) onDisk(attr string) string {
	if space, _, _ := strings.Cut(e.opaqueAttr(), "opaque"); e.opt.Overlay {
		if sub, ok := strings.CutPrefix(attr, space); ok {
			return space + "overlay." + sub
		}
	}
	return attr
}
