package fnmatch

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"", "a", "a/b", ".hidden"}, nil},
		{"", []string{""}, []string{"a"}},
		{"nova-*", []string{"nova-", "nova-api", "nova-a/b"}, []string{"nova", "xnova-api", "Nova-api"}},
		{"*-api", []string{"nova-api", "a/b-api", "-api"}, []string{"nova-api2"}},
		{"*a*b*", []string{"ab", "xaxbx", "aab"}, []string{"ba", "a"}},
		{"a*b*c", []string{"abc", "abbc", "a/b/c", "abcbc"}, []string{"acb", "abcb"}},
		{"nova-?", []string{"nova-1", "nova-/"}, []string{"nova-", "nova-12"}},
		{"[a-c]x", []string{"ax", "bx", "cx"}, []string{"dx", "x", "Ax"}},
		{"[!a-c]x", []string{"dx", "-x"}, []string{"ax", "x"}},
		{"[!!]x", []string{"ax"}, []string{"!x"}},
		{"[abc-]", []string{"-", "a", "c"}, []string{"d"}},
		{"[-a]", []string{"-", "a"}, []string{"b"}},
		{"[a-c-e]", []string{"b", "-", "e"}, []string{"d"}},
		{"[c-a]", nil, []string{"a", "b", "c", "-"}},
		{"[]a]", []string{"]", "a"}, []string{"[", "b", "[]a]"}},
		{"[!]a]", []string{"b"}, []string{"]", "a"}},
		{"[^a]", []string{"^", "a"}, []string{"b"}},
		{"[a", []string{"[a"}, []string{"a"}},
		{"a[", []string{"a["}, []string{"a"}},
		{"[]", []string{"[]"}, []string{"]"}},
		{"[!]", []string{"[!]"}, []string{"]"}},
		{"[*]", []string{"*"}, []string{"a"}},
		{"{a,b}", []string{"{a,b}"}, []string{"a"}},
		{`\*`, []string{`\`, `\a`}, []string{"*"}},
		{"a.c", []string{"a.c"}, []string{"abc"}},
		{"?.x", []string{"é.x", "\xff.x"}, []string{"é\xff.x"}},
		{"[à-é]", []string{"è"}, []string{"e", "\xc3"}},
		{"\xff*", []string{"\xff", "\xffa"}, []string{"\xfe", "\ufffd"}},
		{"*é", []string{"é", "aé"}, []string{"\xa9"}},
	}
	for _, tt := range tests {
		for _, name := range tt.yes {
			if !Match(tt.pattern, name) {
				t.Errorf("%q doesn't match %q", tt.pattern, name)
			}
		}
		for _, name := range tt.no {
			if Match(tt.pattern, name) {
				t.Errorf("%q matches %q", tt.pattern, name)
			}
		}
	}
}

// FuzzMatch compares with a translation into a regular expression, as
// Python's fnmatch is made.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{{"*a?[b-d]*", "xaxbc"}, {"[!a]*", "b/c"}, {"[]-a]", "]"}, {"a**b", "ab"}, {"[", "["}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 100 || len(name) > 1000 || !ascii(pattern) || !ascii(name) {
			return
		}
		re, err := regexp.Compile(translate(pattern))
		if err != nil {
			t.Fatalf("%q: %v", pattern, err)
		}
		if got, want := Match(pattern, name), re.MatchString(name); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", pattern, name, got, want)
		}
	})
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

func translate(pattern string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			// The end: the first ] that is neither first nor behind a leading !.
			j := i + 1
			if j < len(pattern) && pattern[j] == '!' {
				j++
			}
			if j < len(pattern) && pattern[j] == ']' {
				j++
			}
			for j < len(pattern) && pattern[j] != ']' {
				j++
			}
			if j >= len(pattern) {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString(charClass(pattern[i+1 : j]))
			i = j
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	return b.String() + `\z`
}

// charClass lists the members of seq one by one.
func charClass(seq string) string {
	body, not := strings.CutPrefix(seq, "!")
	var members []string
	for c := range 0x80 {
		in := false
		for rest := body; rest != ""; {
			if len(rest) >= 3 && rest[1] == '-' {
				in = in || int(rest[0]) <= c && c <= int(rest[2])
				rest = rest[3:]
			} else {
				in = in || int(rest[0]) == c
				rest = rest[1:]
			}
		}
		if in != not {
			members = append(members, regexp.QuoteMeta(string(rune(c))))
		}
	}
	if len(members) == 0 {
		return `[^\x00-\x{10FFFF}]`
	}
	return "(?:" + strings.Join(members, "|") + ")"
}
