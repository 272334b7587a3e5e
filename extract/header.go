package extract

import (
	"archive/tar"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

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
