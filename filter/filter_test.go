package filter_test

import (
	"archive/tar"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

// A collector is the end of a chain.
type collector struct {
	entries []*oci.Entry
	closed  error // what Close returns
}

func (c *collector) Put(e *oci.Entry) error { c.entries = append(c.entries, e); return nil }
func (c *collector) Close() error           { return c.closed }

func (c *collector) names() []string {
	var names []string
	for _, e := range c.entries {
		names = append(names, e.Header.Name)
	}
	return names
}

// pass sends headers through entry filters as one layer and gives what comes out.
func pass(t *testing.T, filters []oci.EntryFilter, layer oci.Digest, headers ...*tar.Header) *collector {
	t.Helper()
	end := new(collector)
	var s oci.Sink = end
	for _, f := range slices.Backward(filters) {
		s = f.Wrap(oci.Descriptor{Digest: layer}, s)
	}
	for _, h := range headers {
		before := *h
		if err := s.Put(&oci.Entry{Header: h, Body: strings.NewReader("")}); err != nil {
			t.Fatal(err)
		}
		if h.ModTime != before.ModTime || h.Uid != before.Uid || h.Uname != before.Uname || len(h.PAXRecords) != len(before.PAXRecords) {
			t.Errorf("%s: the entry that was given is changed", h.Name)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return end
}

func parse(t *testing.T, specs ...string) filter.Chain {
	t.Helper()
	c, err := filter.ParseAll(specs, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func named(names ...string) []*tar.Header {
	var headers []*tar.Header
	for _, n := range names {
		h := &tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644}
		if strings.HasSuffix(n, "/") {
			h.Typeflag = tar.TypeDir
		}
		headers = append(headers, h)
	}
	return headers
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ spec, want string }{
		{"", "Empty filter specification"},
		{" :a=b", "Empty filter specification"},
		{"frobnicate", "Unknown filter: frobnicate; there are normalize-timestamps, exclude, search, inspect, strip-xattrs, chown, set-config"},
		{"exclude", "exclude filter requires pattern option"},
		{"Exclude:pattern=", "exclude filter requires pattern option"},
		{"search:regex=true", "search filter requires pattern option"},
		{"inspect", "inspect filter requires file option"},
		{"exclude:foo", "Invalid filter option (missing =): foo"},
		{"exclude:,foo,pattern=a", "Invalid filter option (missing =): foo"},
		{"exclude:=x", "Invalid filter option (no name before =): =x"},
		{"exclude:pattern=a,b=c", `exclude has no option "b"; it has compat, pattern (a comma that is part of a value is written \,)`},
		{"exclude:pattern=[", `exclude: the pattern "[" is malformed`},
		{"exclude:pattern=/", `exclude: the pattern "/" means the root; ** drops all that is in it`},
		{"exclude:pattern=a,compat=tar", `exclude: compat is occystrap, not "tar"`},
		{"ts", "Unknown filter: ts"},
		{"normalize-timestamps:ts=yesterday", `filter option ts: "yesterday" is no whole number from 0 to 253402300799`},
		{"normalize-timestamps:ts=-1", `filter option ts: "-1" is no whole number`},
		{"normalize-timestamps:ts=1,ts=2", "filter option ts is given 2 times; it takes one value"},
		{"normalize-timestamps:mode=min", `normalize-timestamps: mode is set or clamp, not "min"`},
		{"normalize-timestamps:config=perhaps", `filter option config is true or false, not "perhaps"`},
		{"search:pattern=(,regex=true", `search: "(" is no regular expression`},
		{"search:pattern=a,regex=maybe", `filter option regex is true or false, not "maybe"`},
		{"inspect:file=/nowhere/at/all/x", "inspect: there is no folder for /nowhere/at/all/x"},
		{"inspect:file=.", "inspect: . is a folder"},
		{"chown", "chown filter requires uid or gid option"},
		{"chown:uid=root", `filter option uid: "root" is no whole number from 0 to 4294967294`},
		{"set-config", "set-config filter requires an option"},
		{"set-config:env=HOME", `set-config: env wants KEY=VALUE, not "HOME"`},
		{"set-config:label==v", `set-config: label wants KEY=VALUE, not "=v"`},
		{"set-config:cmd=[a", `set-config: cmd wants ["word","word"] or one word, not [a`},
		{`set-config:cmd=["a"],b`, `set-config: cmd wants ["word","word"] or one word, not ["a"],b`},
		{"set-config:user=a,user=b", "filter option user is given 2 times"},
	}
	for _, tt := range tests {
		_, err := filter.Parse(tt.spec, filter.Env{})
		if !errors.Is(err, oci.ErrUsage) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want a usage error: %s", tt.spec, err, tt.want)
		}
	}
}

// TestIDs shows what specs mean by the IDs of their filters.
func TestIDs(t *testing.T) {
	tests := []struct {
		name string
		spec string
		want []string
	}{
		{"any case, _ for -", "NORMALIZE_Timestamps:TimeStamp=5", []string{"normalize-timestamps/1:timestamp=5"}},
		{"a default spelt out", "normalize-timestamps:mode=set", []string{"normalize-timestamps/1:timestamp=0"}},
		{"timestamp wins over ts", "normalize-timestamps:timestamp=5,ts=6", []string{"normalize-timestamps/1:timestamp=5"}},
		{"clamp", "normalize-timestamps:ts=6,mode=clamp", []string{"normalize-timestamps/1:timestamp=6,mode=clamp"}},
		{"documented commas", "exclude:pattern=**/.git/**,/**/*.pyc,", []string{"exclude/1:pattern=**/.git/**,pattern=**/*.pyc"}},
		{"a key again", "exclude:pattern=a , pattern = b", []string{"exclude/1:pattern=a,pattern=b"}},
		{"a comma of a pattern", `exclude:pattern=a\,b`, []string{`exclude/1:pattern=a\,b`}},
		{"commas between braces", `exclude:pattern=*.{pyc,pyo},b`, []string{`exclude/1:pattern=*.{pyc\,pyo},pattern=b`}},
		{"a backslash of a pattern", `exclude:pattern=\*`, []string{`exclude/1:pattern=\\*`}},
		{"colons are the value's", `exclude:pattern=a:b`, []string{`exclude/1:pattern=a:b`}},
		{"compat", "exclude:pattern=/a,compat=occystrap", []string{"exclude/1:compat=occystrap,pattern=/a"}},
		{"one value with commas", "search:pattern=a,b", []string{"search/1:for=pattern=a\\,b"}},
		{"script_friendly", "search:pattern=a,script_friendly=1,regex=YES", []string{"search/1:for=regex=a"}},
		{"chown", "chown:gid=7,uid=0", []string{"chown/1:uid=0,gid=7"}},
		{"xattrs", "strip_xattrs:keep=security.*", []string{"strip-xattrs/1:only=*,keep=security.*"}},
		{"no filter of entries", "set-config:user=a", nil},
	}
	for _, tt := range tests {
		if got := parse(t, tt.spec).IDs(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
