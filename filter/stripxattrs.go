package filter

import (
	"net/url"
	"strings"

	"github.com/quaymaster/quaymaster/internal/fnmatch"
	"github.com/quaymaster/quaymaster/oci"
)

var stripXattrs = Kind{
	Name: "strip-xattrs",
	Help: "drops extended attributes, ACLs and SELinux labels among them",
	Options: map[string]string{
		"only": "globs of the attributes to drop, as user.*; default all",
		"keep": "globs of attributes to keep, as security.capability",
	},
	New: func(o Options, _ Env) (Filter, error) {
		return Filter{Entry: StripXattrs(o.List("only"), o.List("keep")), Changes: true}, nil
	},
}

// StripXattrs drops the extended attributes whose names match one of the globs
// in only (nil: all) and none in keep. The globs are fnmatch's. ACLs are
// system.posix_acl_access and system.posix_acl_default, an SELinux label is
// security.selinux, whatever record a tar has them in.
func StripXattrs(only, keep []string) oci.EntryFilter {
	if len(only) == 0 {
		only = []string{"*"}
	}
	return xattrs{only, keep}
}

type xattrs struct{ only, keep []string }

func (x xattrs) ID() string {
	return newID("strip-xattrs", 1).add("only", x.only...).add("keep", x.keep...).String()
}

func (x xattrs) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink {
	return sink{next, func(e *oci.Entry) error {
		var drop []string
		for record := range e.Header.PAXRecords {
			if name := xattrOf(record); name != "" && x.drops(name) {
				drop = append(drop, record)
			}
		}
		var old []string
		for name := range e.Header.Xattrs { //nolint:staticcheck // the reader fills it, and the writer reads it
			if x.drops(name) {
				old = append(old, name)
			}
		}
		if len(drop)+len(old) == 0 {
			return next.Put(e)
		}
		e = edited(e)
		dropRecords(e.Header, drop...)
		for _, name := range old {
			delete(e.Header.Xattrs, name) //nolint:staticcheck // as above
		}
		return next.Put(e)
	}}
}

func (x xattrs) drops(name string) bool {
	return matchAny(x.only, name) && !matchAny(x.keep, name)
}

func matchAny(globs []string, name string) bool {
	for _, g := range globs {
		if fnmatch.Match(g, name) {
			return true
		}
	}
	return false
}

// xattrOf gives the name of the attribute that a PAX record holds, "" if it
// holds none.
func xattrOf(record string) string {
	switch record {
	case "SCHILY.acl.access":
		return "system.posix_acl_access"
	case "SCHILY.acl.default":
		return "system.posix_acl_default"
	case "SCHILY.acl.ace":
		return "system.nfs4_acl"
	case "RHT.security.selinux":
		return "security.selinux"
	}
	if name, ok := strings.CutPrefix(record, "SCHILY.xattr."); ok {
		return name
	}
	name, ok := strings.CutPrefix(record, "LIBARCHIVE.xattr.")
	if !ok {
		return ""
	}
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}
