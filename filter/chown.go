package filter

import (
	"strconv"

	"github.com/quaymaster/quaymaster/oci"
)

var chown = Kind{
	Name: "chown",
	Help: "gives all files one owner",
	Options: map[string]string{
		"uid": "number of the user; without it users stay",
		"gid": "number of the group; without it groups stay",
	},
	New: func(o Options, _ Env) (Filter, error) {
		uid, hasUID, err := o.Number("uid", maxID)
		if err != nil {
			return Filter{}, err
		}
		gid, hasGID, err := o.Number("gid", maxID)
		switch {
		case err != nil:
			return Filter{}, err
		case !hasUID && !hasGID:
			return Filter{}, oci.Usage("chown filter requires uid or gid option")
		}
		if !hasUID {
			uid = -1
		}
		if !hasGID {
			gid = -1
		}
		return Filter{Entry: Chown(int(uid), int(gid)), Changes: true}, nil
	},
}

// maxID is the last number of a user or group on Linux; the next one means none.
const maxID = 1<<32 - 2

// Chown sets the numbers of every entry's user and group; -1 leaves one as it is.
// The name beside a number is cleared, since whoever extracts a tar may trust the
// name more.
func Chown(uid, gid int) oci.EntryFilter { return owner{uid, gid} }

type owner struct{ uid, gid int }

func (x owner) ID() string {
	i := newID("chown", 1)
	if x.uid >= 0 {
		i.add("uid", strconv.Itoa(x.uid))
	}
	if x.gid >= 0 {
		i.add("gid", strconv.Itoa(x.gid))
	}
	return i.String()
}

func (x owner) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink {
	return sink{next, func(e *oci.Entry) error {
		user := x.uid >= 0 && (e.Header.Uid != x.uid || e.Header.Uname != "")
		group := x.gid >= 0 && (e.Header.Gid != x.gid || e.Header.Gname != "")
		if !user && !group {
			return next.Put(e)
		}
		e = edited(e)
		if user {
			e.Header.Uid, e.Header.Uname = x.uid, ""
			dropRecords(e.Header, "uid", "uname")
		}
		if group {
			e.Header.Gid, e.Header.Gname = x.gid, ""
			dropRecords(e.Header, "gid", "gname")
		}
		return next.Put(e)
	}}
}
