package backend

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A URI names a place: SCHEME://REST[?option=value&...].
type URI struct {
	Scheme string // lower case
	Rest   string // percent-decoded, without user:password@
	User   string // from user:password@ in front of a host; "" if there is none
	Secret string

	raw     string
	escaped string // Rest before it was percent-decoded
	options []option
}

type option struct{ name, value string }

// queryRE finds where the options start. An earlier ? belongs to a glob.
var queryRE = regexp.MustCompile(`\?[a-z_-]+=`)

var schemeRE = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// ParseURI reads SCHEME://REST[?options] or SCHEME:REST. Options start at the
// first ? that is followed by a name and =. REST and values are
// percent-decoded; values stay strings. A # is an ordinary character.
// user:password@ in front of a host is taken off. Errors match [oci.ErrUsage].
func ParseURI(s string) (URI, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || !schemeRE.MatchString(scheme) {
		return URI{}, oci.Usage(fmt.Sprintf("missing scheme in %q: write SCHEME://…, for example registry://%s", redact(s), redact(s)))
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return URI{}, oci.Usage(fmt.Sprintf("%q holds control characters", redact(s)))
	}
	u := URI{Scheme: strings.ToLower(scheme), raw: s}
	rest = strings.TrimPrefix(rest, "//")
	if at := queryRE.FindStringIndex(rest); at != nil {
		for pair := range strings.SplitSeq(rest[at[0]+1:], "&") {
			name, value, _ := strings.Cut(pair, "=")
			// PathUnescape and not QueryUnescape: a + is a +, as in a time zone.
			v, err := url.PathUnescape(value)
			if err != nil {
				return URI{}, oci.Usage(fmt.Sprintf("%s: option %s: %v", redact(s), name, err))
			}
			if name != "" && v != "" {
				u.options = append(u.options, option{name, v})
			}
		}
		rest = rest[:at[0]]
	}
	host := rest[:strings.IndexByte(rest+"/", '/')]
	if i := strings.LastIndexByte(host, '@'); i > strings.IndexByte(host, ':') && strings.Contains(host, ":") && !oci.IsDigest(host[i+1:]) {
		u.User, u.Secret, _ = strings.Cut(host[:i], ":")
		if secret, err := url.PathUnescape(u.Secret); err == nil {
			u.Secret = secret
		}
		if user, err := url.PathUnescape(u.User); err == nil {
			u.User = user
		}
		rest = rest[i+1:]
	}
	u.escaped = rest
	var err error
	if u.Rest, err = url.PathUnescape(rest); err != nil {
		return URI{}, oci.Usage(fmt.Sprintf("%s: %v; write %%25 for a percent sign", redact(s), err))
	}
	return u, nil
}

// optionRE finds the values of secret options, loginRE what stands in front of
// a password: SCHEME:USER: or SCHEME://USER:.
var (
	optionRE = regexp.MustCompile(`([?&](?:password|token|secret)=)[^&]*`)
	loginRE  = regexp.MustCompile(`^[^:]*:(?://)?[^/@:?]*:`)
)

// redact hides what must not be shown: the values of secret options, and all
// between USER: and the last @ that no digest follows, also where the password
// isn't escaped as it should be.
func redact(s string) string {
	s = optionRE.ReplaceAllString(s, "${1}***")
	user := len(loginRE.FindString(s))
	for at := len(s); user > 0; {
		if at = strings.LastIndexByte(s[:at], '@'); at < user {
			break
		}
		if !strings.HasPrefix(s[at+1:], "sha256:") && !strings.HasPrefix(s[at+1:], "sha512:") {
			return s[:user] + "***" + s[at:]
		}
	}
	return s
}

// String gives the URI as it was written, without secrets.
func (u URI) String() string { return redact(u.raw) }

// Path gives the path of a place in the file system and the image named in
// it: PATH[:REF], split at the first colon; %3A is a colon of the path.
// file://localhost/a is /a.
func (u URI) Path() (path, ref string, err error) {
	path, ref = u.split()
	if path == "" {
		return "", "", oci.Usage(fmt.Sprintf("%s: %s:// needs a path", u, u.Scheme))
	}
	return unescape(path), unescape(ref), nil
}

// split gives path and ref as they were written.
func (u URI) split() (path, ref string) {
	rest := u.escaped
	if p, ok := strings.CutPrefix(rest, "localhost/"); ok {
		rest = "/" + p
	}
	path, ref, _ = strings.Cut(rest, ":")
	return path, ref
}

// unescape decodes what was decoded before, as a part of more.
func unescape(s string) string {
	if out, err := url.PathUnescape(s); err == nil {
		return out
	}
	return s
}

// EscapePath writes a path so that [URI.Path] gives it as it is, and without
// placeholders.
func EscapePath(path string) string {
	if strings.HasPrefix(path, "localhost/") {
		path = "./" + path // a folder of that name
	}
	return strings.NewReplacer("%", "%25", "?", "%3F", ":", "%3A", "{", "%7B", "}", "%7D").Replace(path)
}

// OptionNames lists the options in the order they were written.
func (u URI) OptionNames() []string {
	var names []string
	for _, o := range u.options {
		names = append(names, o.name)
	}
	return names
}

// Option gives the last value of option name, "" if it isn't set.
func (u URI) Option(name string) string {
	all := u.OptionAll(name)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// OptionAll gives every value of option name.
func (u URI) OptionAll(name string) []string {
	var values []string
	for _, o := range u.options {
		if o.name == name {
			values = append(values, o.value)
		}
	}
	return values
}

// OptionBool gives option name as a yes or no: true, yes, 1, false, no, 0 in
// any case. Unset is unset. The error matches [oci.ErrUsage].
func (u URI) OptionBool(name string, unset bool) (bool, error) {
	switch v := strings.ToLower(u.Option(name)); v {
	case "":
		return unset, nil
	case "true", "yes", "1":
		return true, nil
	case "false", "no", "0":
		return false, nil
	default:
		return false, oci.Usage(fmt.Sprintf("%s: option %s=%s: write true or false", u, name, v))
	}
}

// OptionInt gives option name as a whole number of at least 1, 0 if it isn't
// set. The error matches [oci.ErrUsage].
func (u URI) OptionInt(name string) (int, error) {
	v := u.Option(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, oci.Usage(fmt.Sprintf("%s: option %s=%s: write a whole number of at least 1", u, name, v))
	}
	return n, nil
}
