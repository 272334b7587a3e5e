package discover

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/internal/fnmatch"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

// A query is what a quay:// URI asks for.
type query struct {
	host       string
	token      string // of Quay's API; "" is anonymous
	namespace  string
	glob       string // of repository names within the namespace
	tag        string // exact, or a glob
	period     period // in which the tag was set
	exclude    []exclusion
	labels     []label
	semver     *semver.Constraints // nil: any tag
	latest     int                 // so many newest tags of a repository; 0: all
	companions bool                // cosign's tags match globs too
	key        string              // equal keys ask for the same; without the token
}

// An exclusion is a glob of repository names, or of both repository and tag.
type exclusion struct {
	repo, tag string
	tagged    bool
}

// readQuery reads ORG[/REPOGLOB[:TAG]] and the options of u. Errors match
// [oci.ErrUsage].
func readQuery(u backend.URI, env backend.Env) (query, error) {
	q := query{
		host:  cmp.Or(u.Option("host"), env.QuayHost, quay.DefaultHost),
		token: strings.TrimSpace(cmp.Or(u.Option("token"), env.APIToken)),
	}
	if !oci.ValidHost(q.host) {
		return q, oci.Usage(fmt.Sprintf("%s: %q is no host; write host=quay.example.com or with a port host=quay.example.com:8443", u, q.host))
	}
	if u.User != "" || u.Secret != "" {
		return q, oci.Usage(fmt.Sprintf("%s: quay:// takes no user and password; an API token is --quay-api-token", u))
	}
	if err := q.readPath(u); err != nil {
		return q, err
	}
	if err := q.readOptions(u); err != nil {
		return q, err
	}
	q.key = fmt.Sprintf("%q %q %q %q", q.host, q.namespace, q.glob, q.tag)
	for _, name := range []string{"since", "until", "exclude", "label", "semver", "latest", "companions"} {
		q.key += fmt.Sprintf(" %s%q", name, u.OptionAll(name))
	}
	return q, nil
}

func (q *query) readPath(u backend.URI) error {
	const form = "quay://ORG[/REPOGLOB[:TAG]]"
	namespace, rest, _ := strings.Cut(u.Rest, "/")
	switch {
	case namespace == "":
		return oci.Usage(fmt.Sprintf("%s: it names no organisation; write %s", u, form))
	case namespace == q.host:
		return oci.Usage(fmt.Sprintf("%s: %s is the host; write %s without it, and ?host= for another Quay", u, namespace, form))
	case strings.Contains(namespace, ":"):
		return oci.Usage(fmt.Sprintf("%s: a tag comes behind a repository; write quay://%s", u, strings.Replace(namespace, ":", "/*:", 1)))
	case !oci.ValidRepository(namespace):
		return oci.Usage(fmt.Sprintf("%s: %q is no organisation; write %s", u, namespace, form))
	}
	q.namespace = namespace
	if strings.Contains(rest, "@") {
		return oci.Usage(fmt.Sprintf("%s: quay:// finds tags, and no digests; write registry://%s/%s", u, q.host, u.Rest))
	}
	q.glob = rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		q.glob, q.tag = rest[:i], rest[i+1:]
	}
	q.glob = cmp.Or(q.glob, "*")
	if q.tag == "" {
		q.tag = "latest"
		if u.Option("semver") != "" || u.Option("latest") != "" {
			q.tag = "*"
		}
	}
	if !fnmatch.IsGlob(q.tag) && !oci.ValidTag(q.tag) {
		return oci.Usage(fmt.Sprintf("%s: %q is no tag; write a tag or a glob with * ? [", u, q.tag))
	}
	return nil
}

func (q *query) readOptions(u backend.URI) error {
	var err error
	if q.period, err = readPeriod(u); err != nil {
		return err
	}
	if q.latest, err = u.OptionInt("latest"); err != nil {
		return err
	}
	if q.companions, err = u.OptionBool("companions", false); err != nil {
		return err
	}
	if v := u.Option("semver"); v != "" {
		if q.semver, err = semver.NewConstraint(v); err != nil {
			return oci.Usage(fmt.Sprintf("%s: semver=%s: %v; write a range, semver=>=1.2 <2, semver=~1.4 or semver=1.x", u, v, err))
		}
	}
	for _, v := range u.OptionAll("exclude") {
		var x exclusion
		x.repo, x.tag, x.tagged = strings.Cut(v, ":")
		q.exclude = append(q.exclude, x)
	}
	q.labels, err = readLabels(u)
	return err
}

// exact reports whether the query is for one tag of each repository.
func (q query) exact() bool { return !fnmatch.IsGlob(q.tag) }

// wantsRepository reports whether a repository may hold matches, by its name
// and by when its tags last changed.
func (q query) wantsRepository(r quay.Repository) bool {
	if !fnmatch.Match(q.glob, r.Name) {
		return false
	}
	for _, x := range q.exclude {
		if !x.tagged && fnmatch.Match(x.repo, r.Name) {
			return false
		}
	}
	// A repository that changed late may yet lack a tag that did, but one that
	// didn't can't have one. No date at all means no live tag.
	return q.period.since.IsZero() || !r.LastModified.Before(q.period.since)
}

// wantsTag reports whether t of the repository name matches, its labels and
// the number of newer ones apart.
func (q query) wantsTag(name string, t quay.Tag) bool {
	if q.exact() {
		if t.Name != q.tag {
			return false
		}
	} else if !fnmatch.Match(q.tag, t.Name) {
		return false
	} else if _, _, ok := companion.ParseTag(t.Name); ok && !q.companions {
		return false
	}
	for _, x := range q.exclude {
		if x.tagged && fnmatch.Match(x.repo, name) && fnmatch.Match(x.tag, t.Name) {
			return false
		}
	}
	if q.semver != nil {
		v, err := semver.NewVersion(t.Name)
		if err != nil || !q.semver.Check(v) {
			return false
		}
	}
	return q.period.has(t.Start)
}

// repository gives the path of a repository of the query.
func (q query) repository(name string) string { return q.namespace + "/" + name }
