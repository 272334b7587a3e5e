package daemon

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/quaymaster/quaymaster/oci"
)

// A name is what an image is called in a daemon.
type name struct {
	ask string  // what the daemon is asked for
	ref oci.Ref // Registry is "" if it names none; of an image ID only Digest is set
}

var idRE = regexp.MustCompile(`^[0-9a-f]{64}$`)

// nowhere stands in for the registry of names that have none.
const nowhere = "nowhere.invalid"

// parseName reads IMAGE[:TAG][@DIGEST] or an image's ID. A name without a tag is
// asked for as it is, since it may be a shortened ID.
func parseName(s string) (name, error) {
	if s == "" {
		return name{}, errors.New("it names no image")
	}
	if idRE.MatchString(s) {
		s = "sha256:" + s
	}
	if oci.ValidDigest(oci.Digest(s)) == nil {
		return name{s, oci.Ref{Digest: oci.Digest(s)}}, nil
	}
	ref, err := oci.ParseRef(s, nowhere)
	if err != nil {
		return name{}, fmt.Errorf("%.300q is no image's name", s)
	}
	if ref.Registry == nowhere {
		ref.Registry = ""
	}
	n := name{ask: s, ref: ref}
	switch {
	case ref.Digest != "": // which goes before the tag
		n.ask = oci.Ref{Registry: ref.Registry, Repository: ref.Repository, Digest: ref.Digest}.String()
	case ref.Tag == "":
		n.ref.Tag = "latest"
	}
	return n, nil
}

// An absent is the error of an image that isn't there. It matches
// [oci.ErrNotFound].
type absent struct {
	name   name
	daemon string
}

func (a absent) Error() string {
	s := fmt.Sprintf("Image not found: %s (daemon %s)", a.name.ask, a.daemon)
	if a.name.ref.Registry != "" {
		s += "; for a registry write registry://" + a.name.ask
	}
	return s
}

func (a absent) Unwrap() error { return oci.ErrNotFound }
