package backend

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Template is text in which {placeholders} stand for parts of an image's name
// at its source: in paths of destinations, and in names at a registry. Of
// quay.io/kolla/team/svc:1
//
//	{registry}   quay.io, with - for the : before a port
//	{namespace}  kolla; nothing if the repository has one part only
//	{repo}       team/svc: the repository without its namespace
//	{name}       svc: the last part of the repository
//	{tag}        1
//	{digest}     the digest without its algorithm
//	{arch}       the architecture that the run chose, with its variant: amd64, armv7
type Template struct {
	text    string
	escaped bool // what isn't a placeholder is percent-encoded
}

// placeholders are what templates can have, in the order of the doc.
var placeholders = []string{"{registry}", "{namespace}", "{repo}", "{name}", "{tag}", "{digest}", "{arch}"}

var placeholderRE = regexp.MustCompile(`\{[^{}]*\}`)

// HasPlaceholder reports whether u is meant to hold a [Template]. A brace that is
// none of its is written %7B or %7D.
func (u URI) HasPlaceholder() bool { return strings.ContainsAny(u.escaped, "{}") }

// Template gives the path of u as a [Template], or an error as [ParseTemplate].
func (u URI) Template() (Template, error) {
	path, _ := u.split()
	t := Template{text: path, escaped: true}
	if err := t.valid(); err != nil {
		return t, fmt.Errorf("%w; a brace of the path itself is %%7B or %%7D", err)
	}
	return t, nil
}

// ParseTemplate reads text. An unknown placeholder, or a brace alone, is an error
// matching [oci.ErrUsage].
func ParseTemplate(text string) (Template, error) {
	t := Template{text: text}
	return t, t.valid()
}

func (t Template) valid() error {
	wrong := func(what string) error {
		return oci.Usage(fmt.Sprintf("template %q: %s; it can have %s", t.text, what, strings.Join(placeholders, " ")))
	}
	for _, p := range placeholderRE.FindAllString(t.text, -1) {
		if !slices.Contains(placeholders, p) {
			return wrong("unknown placeholder " + p)
		}
	}
	if strings.ContainsAny(placeholderRE.ReplaceAllString(t.text, ""), "{}") {
		return wrong("a brace without its other")
	}
	return nil
}

// String gives t as it was written.
func (t Template) String() string { return t.text }

// Has reports whether t has the placeholder name, which is without braces.
func (t Template) Has(name string) bool { return strings.Contains(t.text, "{"+name+"}") }

// A Subject is what placeholders stand for parts of.
type Subject struct {
	Ref    oci.Ref    // at the source
	Digest oci.Digest // "" if nobody knows
	Arch   string     // "amd64", "armv7"
}

// value gives what p stands for.
func (s Subject) value(p string) string {
	namespace, repo, ok := strings.Cut(s.Ref.Repository, "/")
	if !ok {
		namespace, repo = "", s.Ref.Repository
	}
	switch p {
	case "{registry}":
		return strings.ReplaceAll(s.Ref.Registry, ":", "-")
	case "{namespace}":
		return namespace
	case "{repo}":
		return repo
	case "{name}":
		return repo[strings.LastIndexByte(repo, '/')+1:]
	case "{tag}":
		return s.Ref.Tag
	case "{digest}":
		_, hex, _ := strings.Cut(string(s.Digest), ":")
		return hex
	}
	return s.Arch
}

// Expand gives t for s. A {digest} that nobody knows is an error matching
// [oci.ErrUsage].
func (t Template) Expand(s Subject) (string, error) {
	if s.Digest == "" && t.Has("digest") {
		return "", oci.Usage(fmt.Sprintf("%s: {digest} in %q: its digest isn't known yet", s.Ref, t.text))
	}
	if !t.escaped {
		return placeholderRE.ReplaceAllStringFunc(t.text, s.value), nil
	}
	var b strings.Builder
	end := 0
	for _, at := range placeholderRE.FindAllStringIndex(t.text, -1) {
		b.WriteString(unescape(t.text[end:at[0]]) + s.value(t.text[at[0]:at[1]]))
		end = at[1]
	}
	return b.String() + unescape(t.text[end:]), nil
}

// Path gives t, a path, for s. What an image lacks leaves no empty folder
// behind; an image without a tag has the digest in its place. Nothing in a name
// leads out of the path: the error for one that would matches [oci.ErrUsage].
func (t Template) Path(s Subject) (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	if s.Ref.Tag == "" && t.Has("tag") {
		if s.Digest == "" {
			return "", oci.Usage(fmt.Sprintf("%s: {tag} in %q: it has none, and its digest isn't known yet", s.Ref, t.text))
		}
		s.Ref.Tag = s.Digest.Encoded()
	}
	var parts []string
	for part := range strings.SplitSeq(t.text, "/") {
		own := !placeholderRE.MatchString(part) // the user's, who may write what he likes
		text, err := Template{part, t.escaped}.Expand(s)
		switch {
		case err != nil:
			return "", err
		case !own && (text == "." || text == ".."):
			return "", oci.Usage(fmt.Sprintf("%s: %q would lead to %q", s.Ref, t.text, text))
		case own || text != "":
			parts = append(parts, text)
		}
	}
	path := strings.Join(parts, "/")
	if path == "" || strings.HasSuffix(path, "/") {
		return "", oci.Usage(fmt.Sprintf("%s: nothing of it is in the path %q", s.Ref, t.text))
	}
	return path, nil
}

// check refuses names that no registry would take: they may come from an archive.
func (s Subject) check() error {
	r := s.Ref
	ok := (r.Registry == "" || oci.ValidHost(r.Registry)) && (r.Repository == "" || oci.ValidRepository(r.Repository)) && (r.Tag == "" || oci.ValidTag(r.Tag))
	if ok && s.Digest != "" {
		ok = oci.ValidDigest(s.Digest) == nil
	}
	if !ok {
		return oci.Usage(fmt.Sprintf("%q is no image name; it can't be part of a path", s.Ref))
	}
	return nil
}
