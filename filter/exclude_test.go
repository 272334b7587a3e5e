package filter_test

import (
	"slices"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestExclude(t *testing.T) {
	tests := []struct {
		name     string
		spec     string
		in, want []string
	}{
		{"whole folder", "var/cache", []string{"var/", "var/cache/", "var/cache/a", "var/cache/d/", "var/cached"}, []string{"var/", "var/cached"}},
		{"what is in a folder, whose entry isn't there", "var/cache", []string{"var/cache/d/a"}, nil},
		{"children only", "var/cache/*", []string{"var/cache/", "var/cache/a", "var/cache/.b", "var/cache/d/", "var/cache/d/a"}, []string{"var/cache/"}},
		{"leading dot and slash", "etc/motd", []string{"./etc/motd", "/etc/motd", "etc/motd", "../etc/motd", "./etc/"}, []string{"./etc/"}},
		{"pattern with slashes around", "/etc/motd/", []string{"etc/motd", "x/etc/motd"}, []string{"x/etc/motd"}},
		{"** for no folder", "**/.git/**", []string{"app/.git/x", "app/.git", ".git/", ".git/x", "app/.gitignore"}, []string{"app/.gitignore"}},
		{"** at the root", "**/*.pyc", []string{"a.pyc", "d/a.pyc", "d/e/a.pyc", "a.py"}, []string{"a.py"}},
		{"* stays in its folder", "*.pyc", []string{"a.pyc", "d/a.pyc"}, []string{"d/a.pyc"}},
		{"two by a comma", "a,b", []string{"a", "b", "a,b"}, []string{"a,b"}},
		{"a comma within", `a\,b`, []string{"a", "b", "a,b"}, []string{"a", "b"}},
		{"choices", "*.{pyc,pyo},c", []string{"a.pyc", "a.pyo", "a.py", "c"}, []string{"a.py"}},
		{"an escaped star", `\*`, []string{"*", "a"}, []string{"a"}},
		{"everything but the root", "**", []string{"./", "a", "d/", "d/b"}, []string{"./"}},
		{"whiteout of a dropped path", "tmp/x", []string{"tmp/.wh.x", "tmp/.wh.xy"}, []string{"tmp/.wh.xy"}},
		{"whiteout in a dropped folder", "tmp", []string{"./tmp/.wh.x", ".wh.tmp"}, nil},
		{"whiteout of a folder above", "tmp/x", []string{".wh.tmp"}, []string{".wh.tmp"}},
		{"whiteout at the root", "x", []string{".wh.x", ".wh.y"}, []string{".wh.y"}},
		{"opaque marker of a dropped folder", "a/b", []string{"a/b/.wh..wh..opq", "a/.wh..wh..opq", ".wh..wh..opq"}, []string{"a/.wh..wh..opq", ".wh..wh..opq"}},
		{"a whiteout isn't matched by its own name", "**/.wh.*", []string{"a/.wh.b", "a/.wh..wh..opq"}, []string{"a/.wh.b", "a/.wh..wh..opq"}},
		{"not a whiteout of anything", "a", []string{"a/.wh.", "b/.wh."}, []string{"b/.wh."}},
		{"case counts", "etc", []string{"ETC"}, []string{"ETC"}},
		{"bytes that are no UTF-8", "d/?", []string{"d/\xff", "d/ab"}, []string{"d/ab"}},
	}
	for _, tt := range tests {
		c := parse(t, "exclude:pattern="+tt.spec)
		if got := pass(t, c.Entries, "", named(tt.in...)...).names(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestExcludeCompat is the table of what occystrap's exclude does and doesn't.
func TestExcludeCompat(t *testing.T) {
	tests := []struct {
		name     string
		spec     string
		in, want []string
	}{
		{"a folder's children stay", "app", []string{"app/", "app/x"}, []string{"app/x"}},
		{"a match in a folder", "**/.git/**", []string{"app/.git/x", "app/.git/", ".git/x"}, []string{"app/.git/", ".git/x"}},
		{"root-level names are missed", "**/*.pyc", []string{"a.pyc", "d/a.pyc", "d/e/a.pyc"}, []string{"a.pyc"}},
		{"a leading slash never matches", "/etc/motd", []string{"etc/motd", "./etc/motd"}, []string{"etc/motd", "./etc/motd"}},
		{"a leading dot counts", "etc/*", []string{"etc/motd", "./etc/motd"}, []string{"./etc/motd"}},
		{"** is *", "a/**/c", []string{"a/b/c", "a/c", "a/b/d/c"}, []string{"a/c"}},
		{"* crosses slashes", "*.pyc", []string{"d/e/a.pyc", "a.pyc"}, nil},
		{"whiteouts are names", "tmp/x", []string{"tmp/.wh.x"}, []string{"tmp/.wh.x"}},
		{"whiteouts by their own names", "*.wh.*", []string{"tmp/.wh.x", "a"}, []string{"a"}},
		{"no braces", "{a,b}", []string{"a", "b"}, []string{"a", "b"}},
		{"[!x]", "[!a]", []string{"a", "b"}, []string{"a"}},
	}
	for _, tt := range tests {
		c := parse(t, "exclude:compat=occystrap,pattern="+tt.spec)
		if got := pass(t, c.Entries, "", named(tt.in...)...).names(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestExcludeDrops(t *testing.T) {
	tests := []struct {
		spec, path string
		want       bool
	}{
		{"exclude:pattern=a/*", "a/b/c", true},
		{"exclude:pattern=a/*", "a", false},
		{"exclude:pattern=**", "", false},
		{"exclude:compat=occystrap,pattern=a", "a/b", false},
		{"exclude:compat=occystrap,pattern=a*", "a/b", true},
		{"exclude:compat=occystrap,pattern=./a", "a", true},
	}
	for _, tt := range tests {
		d, ok := parse(t, tt.spec).Entries[0].(oci.Dropper)
		if !ok {
			t.Fatalf("%s is no Dropper", tt.spec)
		}
		if got := d.Drops(tt.path); got != tt.want {
			t.Errorf("%s, %q: got %v, want %v", tt.spec, tt.path, got, tt.want)
		}
	}
}
