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

// A warning is a kind of thing that could not be kept.
type warning int

const (
	warnEscapes warning = iota
	warnMark
	warnDevice
	warnHole
	warnOwner
	warnAttr
	warnHostAttr
	warnLast
)

var warningTexts = [warnLast]string{
	warnEscapes:  "names led out of the root file system and were taken as below it",
	warnMark:     "marks of a storage driver were left out",
	warnDevice:   "device nodes are empty files: this user may not make device nodes",
	warnHole:     "device nodes 0:0 are empty files: to overlayfs they would be whiteouts",
	warnOwner:    "entries belong to you and not to their users in the image (noted in user.rootlesscontainers): only root may give files away",
	warnAttr:     "extended attributes were left out: this user, or this type of file, can't have them",
	warnHostAttr: "extended attributes were left out: they are the host's to set (security.selinux, system.nfs4_acl)",
}

type warnings [warnLast]int64

func (w *warnings) add(k warning, n int64) { w[k] += n }

func (w *warnings) lines() []string {
	var lines []string
	for k, n := range w {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d %s", n, warningTexts[k]))
		}
	}
	return lines
}

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
			e.warn.add(warnDevice, 1) // umoci makes it an empty file
		case e.opt.Overlay && h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
			e.warn.add(warnHole, 1)
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, 0, 0
		}
	default:
		return nil, fmt.Errorf("%w: unknown type %q", oci.ErrInvalid, h.Typeflag)
	}
	if e.rootless && h.Typeflag != tar.TypeLink && (h.Uid != 0 || h.Gid != 0) {
		e.warn.add(warnOwner, 1)
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
		e.warn.add(warnHostAttr, 1)
		return false
	case space == "user" && flag != tar.TypeReg && flag != tar.TypeDir, // the kernel has none there
		e.rootless && (space == "security" || space == "trusted"),
		e.rootless && attr == "user.rootlesscontainers":
		e.warn.add(warnAttr, 1)
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
