package filter

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	tests := []struct {
		name string
		spec string
		want []string // key=piece|piece
	}{
		{"no options", "x", nil},
		{"no options behind a colon", "x:", nil},
		{"empty pieces don't count", "x:,a=1,,b=2,", []string{"a=1", "b=2"}},
		{"an empty value", "x:a=", []string{"a="}},
		{"commas go on", "x:a=1,2,3,b=4", []string{"a=1|2|3", "b=4"}},
		{"a comma by a backslash", `x:a=1\,b=4`, []string{"a=1,b=4"}},
		{"other backslashes stay", `x:a=\*\\,b=\`, []string{`a=\*\\`, `b=\`}},
		{"space around", " x : a = 1 , b = 2 ", []string{"a= 1 ", "b= 2 "}},
		{"names in one spelling", "x:Script_Friendly=1", []string{"script-friendly=1"}},
		{"= in a value", "x:env=A=B=C", []string{"env=A=B=C"}},
		{"no name begins so", `x:env=A=-Da=b,-Dc=d,"e=f`, []string{`env=A=-Da=b|-Dc=d|"e=f`}},
		{"an array", `x:cmd=["a, b=c","\"],d=e"] ,f=g`, []string{`cmd=["a, b=c","\"],d=e"] `, "f=g"}},
		{"an empty array", `x:cmd=[],f=g`, []string{"cmd=[]", "f=g"}},
		{"no array but a class", `x:pattern=[ab],c=d`, []string{"pattern=[ab]", "c=d"}},
		{"an array and more", `x:cmd=["a"]b,c`, []string{`cmd=["a"]b|c`}},
	}
	for _, tt := range tests {
		name, opts, err := parseSpec(tt.spec)
		var got []string
		for _, o := range opts {
			got = append(got, o.name+"="+strings.Join(o.pieces, "|"))
		}
		if err != nil || name != "x" || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q %q, %v; want %q", tt.name, name, got, err, tt.want)
		}
	}
}

func TestList(t *testing.T) {
	tests := []struct {
		value string
		want  []string
	}{
		{"a, b ,,c,", []string{"a", "b", "c"}},
		{"{a,b},c", []string{"{a,b}", "c"}},
		{"{a,{b,c},d}e,f", []string{"{a,{b,c},d}e", "f"}},
		{`\{a,b`, []string{`\{a`, "b"}},
		{"}{a,b}", []string{"}{a,b}"}},
		{"{a,b", []string{"{a,b"}},
		{"a\\,b,c", []string{"a,b", "c"}},
		{"", nil},
	}
	for _, tt := range tests {
		_, opts, err := parseSpec("x:pattern=" + tt.value)
		if got := opts.List("pattern"); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, %v; want %q", tt.value, got, err, tt.want)
		}
	}
}

// FuzzParseSpec writes what was read and reads it again.
func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{
		"exclude:pattern=**/.git/**,**/*.pyc", "normalize_timestamps:ts=1,mode=clamp", `x:a=\,,b`, `set-config:cmd=["a","b=c"],env=A=1`,
		"x:a={b,c},d=", ":", "x:=", `x:a=\`, "x:a=[,b", "%:d=[\"a&,]\xa9,,\x99\xf7,\t,a=__\"]", "chown:uid=0,gid=0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		_, _ = Parse(strings.ReplaceAll(spec, "inspect", ""), Env{}) // which would look at files
		name, opts, err := parseSpec(spec)
		if err != nil {
			return
		}
		if len(opts) == 0 {
			return
		}
		var parts []string
		for _, o := range opts {
			if strings.HasPrefix(o.pieces[0], "[") && !json.Valid([]byte(o.pieces[0])) {
				return // no array, but with other spaces behind it there may be one
			}
			var pieces []string
			for _, p := range o.pieces {
				if trailing := len(p) - len(strings.TrimRight(p, `\`)); trailing%2 == 1 {
					return // a backslash at the end of the spec, or of an array: it would take the comma behind it
				}
				pieces = append(pieces, strings.ReplaceAll(p, ",", `\,`))
			}
			parts = append(parts, o.name+"="+strings.Join(pieces, ","))
		}
		again := name + ":" + strings.Join(parts, ",")
		name2, opts2, err := parseSpec(again)
		if err != nil || name2 != name || !slices.EqualFunc(opts, opts2, func(a, b option) bool {
			return a.name == b.name && slices.Equal(a.pieces, b.pieces)
		}) {
			t.Errorf("%q: got %q, by way of %q: %q, %v", spec, opts, again, opts2, err)
		}
	})
}

// FuzzExclude holds the pattern to what it promises of children and the root.
func FuzzExclude(f *testing.F) {
	f.Add("a/**", "a/b")
	f.Add("**/{a,b}/*", "x/a/.wh.c")
	f.Add("[!a]", "../b")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 40 || len(name) > 200 {
			return
		}
		x, err := Exclude(pattern)
		if err != nil {
			return
		}
		drops := x.(excludePaths).Drops
		p := clean(name)
		if drops("") {
			t.Errorf("%q drops the root", pattern)
		}
		if p != "" && drops(p) && !drops(p+"/child") {
			t.Errorf("%q drops %q, but not what is in it", pattern, p)
		}
		if got := clean(p); got != p || strings.HasPrefix(p, "/") {
			t.Errorf("%q is clean as %q, which is clean as %q", name, p, got)
		}
		dir, base := path.Split(p)
		if got := target(dir + whiteoutPrefix + base); base != "" && !strings.HasPrefix(base, whiteoutPrefix) && got != p {
			t.Errorf("the whiteout of %q is of %q", p, got)
		}
	})
}
