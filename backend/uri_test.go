package backend_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

func TestParseURI(t *testing.T) {
	tests := []struct {
		name, in, scheme, rest, user, secret string
		options                              []string // name, value, ...
	}{
		{"registry", "registry://quay.io/kolla/nova:1", "registry", "quay.io/kolla/nova:1", "", "", nil},
		{"glob", "quay://kolla/nova-?:v1?since=2026-01-01", "quay", "kolla/nova-?:v1", "", "", []string{"since", "2026-01-01"}},
		{"escaped glob", "quay://o/nova-%3F:v1", "quay", "o/nova-?:v1", "", "", nil},
		{"numbers stay strings", "quay://o?token=1&label=a=b&label=c", "quay", "o", "", "", []string{"token", "1", "label", "a=b", "label", "c"}},
		{"a time zone keeps its plus", "quay://o?since=2026-01-01T00:00:00+02:00", "quay", "o", "", "", []string{"since", "2026-01-01T00:00:00+02:00"}},
		{"without slashes", "tar:foo.tar", "tar", "foo.tar", "", "", nil},
		{"upper case", "OCIDIR://a/b", "ocidir", "a/b", "", "", nil},
		{"user and password", "registry://u:p%40w@h.x:5000/a:1", "registry", "h.x:5000/a:1", "u", "p@w", nil},
		{"digest", "registry://h.x/a@sha256:abc", "registry", "h.x/a@sha256:abc", "", "", nil},
		{"hash sign", "dir://a#b", "dir", "a#b", "", "", nil},
		{"path with an at sign", "dir://a@b/c", "dir", "a@b/c", "", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := backend.ParseURI(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			got := []string{u.Scheme, u.Rest, u.User, u.Secret}
			if want := []string{tt.scheme, tt.rest, tt.user, tt.secret}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			var options []string
			seen := map[string]int{}
			for _, n := range u.OptionNames() {
				options = append(options, n, u.OptionAll(n)[seen[n]])
				seen[n]++
			}
			if !slices.Equal(options, tt.options) {
				t.Errorf("options %q, want %q", options, tt.options)
			}
		})
	}
}

func TestURIRefuses(t *testing.T) {
	for _, in := range []string{"", "kolla/nova", "://x", "dir://a\nb", "dir://%zz"} {
		if _, err := backend.ParseURI(in); !errors.Is(err, oci.ErrUsage) {
			t.Errorf("%q: got %v, want a usage error", in, err)
		}
	}
}

func TestURIPath(t *testing.T) {
	for in, want := range map[string][2]string{
		"ocidir://kolla":                         {"kolla", ""},
		"ocidir:///a/b:quay.io/kolla/nova:1":     {"/a/b", "quay.io/kolla/nova:1"},
		"file://localhost/a":                     {"/a", ""},
		"ocidir://./kolla:v1":                    {"./kolla", "v1"},
		"oci-archive://f.tar:h:5000/a@sha256:ab": {"f.tar", "h:5000/a@sha256:ab"},
		"tar://a%3Ab%25%3F.tar:r%3A1":            {"a:b%?.tar", "r:1"},
		"tar://%7Bx%7D.tar":                      {"{x}.tar", ""},
	} {
		u, err := backend.ParseURI(in)
		if err != nil {
			t.Fatal(err)
		}
		path, ref, err := u.Path()
		if got := [2]string{path, ref}; err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", in, got, err, want)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("quay://kolla/nova-?:v1?since=2026-01-01")
	f.Add("registry://u:p@h.x/a:1")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := backend.ParseURI(s)
		if err == nil && len(u.Secret) > 3 && !strings.Contains(u.Rest+strings.Join(u.OptionNames(), ""), u.Secret) && strings.Contains(u.String(), ":"+u.Secret+"@") {
			t.Fatalf("%s shows %q", u, u.Secret)
		}
	})
}

// What String and errors show of a URI, be it well-formed or not.
func TestURIHidesSecrets(t *testing.T) {
	tests := map[string]string{
		"registry://u:s3cret@h/r:1":                  "registry://u:***@h/r:1",
		"registry:u:s3cret@h/r:1":                    "registry:u:***@h/r:1",
		"registry://u:s3c/ret@h/r:1":                 "registry://u:***@h/r:1",
		"registry://u:p@s3cret@h/r:1":                "registry://u:***@h/r:1",
		"registry://u:s3cret@h:1/r:1@sha256:0f":      "registry://u:***@h:1/r:1@sha256:0f",
		"registry://h:1/r?password=s3c@ret&tls=x":    "registry://h:1/r?password=***&tls=x",
		"quay://o?since=2026-01-01&token=s3cret&x=1": "quay://o?since=2026-01-01&token=***&x=1",
		"registry://h:1/r:1@sha256:0f":               "registry://h:1/r:1@sha256:0f",
		"ocidir://dir:h/r@sha512:0f":                 "ocidir://dir:h/r@sha512:0f",
		"quay://o/a:b?label=x@y":                     "quay://o/a:b?label=x@y",
	}
	for in, want := range tests {
		u, err := backend.ParseURI(in)
		if err != nil || u.String() != want {
			t.Errorf("%s: got %s, %v, want %s", in, u, err, want)
		}
	}
	for _, in := range []string{"h?token=s3cret", "1.2.3.4:5/r?password=s3cret", "registry://u:s3cret@h/%zz", "quay://o?token=s3cret&since=%zz", "dir://u:s3cret@h\n"} {
		if _, err := backend.ParseURI(in); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want an error without the secret", in, err)
		}
	}
}
