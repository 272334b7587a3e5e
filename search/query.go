package search

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Query says what is searched for: entries for which all that is set holds.
type Query struct {
	// Name decides on names as they stand in the archive, without a slash at
	// their end. nil takes all. A filter.Matcher's
	// Match will do.
	Name func(name string) bool
	// Content must match somewhere in a regular file. Bytes that are no UTF-8
	// are characters of their own. Memory doesn't grow with the file.
	Content *regexp.Regexp
	// SetID takes only files with the setuid or setgid bit, and hard links to them.
	SetID bool
	// SHA256 is the digest that a regular file's content must have, as 64 hex
	// digits; "" takes any. See [Digest].
	SHA256 string

	// Visible takes only what is in the final file system of an image.
	Visible bool
	// Details fills in Platform, DiffID and Hidden of results. It costs a request
	// an image for its config, and memory for each entry (see the package).
	Details bool
}

// Digest reads 64 hex digits, with or without sha256: in front, for
// [Query.SHA256]. It returns an error matching [oci.ErrUsage].
func Digest(s string) (string, error) {
	digits := strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	if b, err := hex.DecodeString(digits); err != nil || len(b) != sha256.Size {
		return "", oci.Usage(fmt.Sprintf("%q is no sha256: write its 64 hex digits", s))
	}
	return digits, nil
}

// takes reports whether h, called name, is a match as far as its header says.
func (q *Query) takes(h *tar.Header, name string) bool {
	const setID = 0o6000
	switch {
	case q.Name != nil && !q.Name(name),
		q.SetID && (h.Mode&setID == 0 || h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeLink),
		q.readsContent() && !hasContent(h):
		return false
	}
	return true
}

func (q *Query) readsContent() bool { return q.Content != nil || q.SHA256 != "" }

func hasContent(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont
}

// hides reports whether what is hidden must be known.
func (q *Query) hides() bool { return q.Visible || q.Details }
