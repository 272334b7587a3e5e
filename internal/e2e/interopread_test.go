//go:build interop

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sameInfo compares what info -O json prints: keys, their order, and values.
func sameInfo(t *testing.T, p *purposes, theirs, ours string) {
	t.Helper()
	a, b := keysOf(t, []byte(theirs)), keysOf(t, []byte(ours))
	extra := b[min(len(a), len(b)):]
	if !slices.Equal(a, b[:len(b)-len(extra)]) {
		t.Errorf("occystrap's keys are %q, ours %q", a, b)
	}
	if len(extra) > 0 {
		p.differs(t, "`info -O json` of what has a manifest", slices.Equal(extra, []string{"digest", "platforms"}[:len(extra)]))
	}
	var x, y map[string]json.RawMessage
	if err := json.Unmarshal([]byte(theirs), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(ours), &y); err != nil {
		t.Fatal(err)
	}
	for _, k := range a {
		if k == "labels" || k == "exposed_ports" || k == "volumes" {
			x[k], y[k] = sorted(t, x[k]), sorted(t, y[k])
		}
		if got, want := tokens(t, y[k]), tokens(t, x[k]); got != want {
			t.Errorf("%s: occystrap has %s, we %s", k, want, got)
		}
	}
}

// sorted gives an object or a list of strings in order.
func sorted(t *testing.T, raw []byte) []byte {
	t.Helper()
	v := decoded(t, raw)
	if list, ok := v.([]any); ok {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tokens gives what JSON says, with the order of keys and without its way of
// writing strings.
func tokens(t *testing.T, raw []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var b strings.Builder
	for {
		token, err := d.Token()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%v ", token)
	}
}

// archived has occystrap write s into an archive.
func archived(t *testing.T, s sample) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	occystrap(t, "process", s.uri, "tar://"+path)
	return path
}

func interopInfo(t *testing.T, p *purposes, all map[string]sample) {
	for _, name := range []string{"rich", "docker", "index"} {
		theirs, ours := occystrap(t, "-O", "json", "info", all[name].uri), must(t, "--plain-http", "-O", "json", "--platform", "linux/amd64", "info", all[name].uri).stdout
		sameInfo(t, p, theirs, ours)
	}
	s := all["rich"]
	path := archived(t, s)
	base := s.name[strings.LastIndex(s.name, "/")+1:]
	theirs := occystrap(t, "-O", "json", "info", "tar://"+path)
	ours := must(t, "-O", "json", "info", "tar://"+path+":"+base).stdout
	sameInfo(t, p, theirs, ours)
	many := must(t, "-O", "json", "info", "tar://"+path).stdout
	p.differs(t, "`info`, `search`, `check` of `tar://PATH`", many[0] == '[' && equalJSON(t, decoded(t, []byte(many)), []any{decoded(t, []byte(ours))}))

	// The text, but for our line of the digest.
	theirs, ours = occystrap(t, "info", s.uri), must(t, "--plain-http", "info", s.uri).stdout
	digest := "Digest:        " + string(s.img.Desc.Digest) + "\n"
	p.differs(t, "`info` as text", strings.Contains(ours, digest))
	const ports, labels = "  Ports:      8080/tcp, 53/udp\n", "    maintainer=nobody\n    a=b\n"
	p.differs(t, "labels, ports and volumes of `info`", strings.Contains(theirs, ports) && strings.Contains(theirs, labels))
	theirs = strings.NewReplacer(ports, "  Ports:      53/udp, 8080/tcp\n", labels, "    a=b\n    maintainer=nobody\n").Replace(theirs)
	if ours = strings.Replace(ours, digest, "", 1); ours != theirs {
		t.Errorf("occystrap prints\n%s\nwe\n%s", theirs, ours)
	}
}

func interopSearch(t *testing.T, p *purposes, all map[string]sample) {
	s := all["debian"]
	archive := archived(t, s)
	got := readSaved(t, archive)
	var folders []string // of occystrap's archive, and what we call these layers
	for i, id := range diffIDsOf(t, s.img) {
		folders = append(folders, strings.TrimSuffix(got.entry.Layers[i], "/layer.tar"), id.Encoded())
	}
	rename := strings.NewReplacer(folders...)
	for _, tt := range []struct{ pattern, flags string }{
		{"*motd*", ""}, {"etc/*", ""}, {"*", "--script-friendly"}, {`^(etc|opt)/.*[de]$`, "--regex"}, {"no-such*", ""}, {"no-such*", "--script-friendly"},
	} {
		args := append([]string{"search"}, strings.Fields(tt.flags)...)
		theirs := occystrap(t, append(args, s.uri, tt.pattern)...)
		if ours := must(t, append(args, "--plain-http", s.uri, tt.pattern)...).stdout; ours != theirs {
			t.Errorf("search %q: occystrap prints\n%s\nwe\n%s", tt, theirs, ours)
		}
		if tt.pattern == "etc/*" || tt.flags == "--script-friendly" {
			theirs = occystrap(t, append(args, "tar://"+archive, tt.pattern)...)
			ours := must(t, append(args, "tar://"+archive+":debian:v1", tt.pattern)...).stdout
			if theirs != "" {
				p.differs(t, "layers of archives in `search`", ours != theirs)
			}
			if renamed := rename.Replace(theirs); ours != renamed {
				t.Errorf("search %q in an archive: occystrap prints\n%s\nwe\n%s", tt, renamed, ours)
			}
		}
	}
}

// checked is what check -O json prints.
type checked struct {
	Image, Tag, Mode string
	Errors, Warnings int
	Results          []struct{ Severity, Check, Message string }
}

func (c checked) String() string {
	var lines []string
	for _, r := range c.Results {
		lines = append(lines, r.Severity+" "+r.Check)
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s:%s %s, %d errors, %d warnings\n%s", c.Image, c.Tag, c.Mode, c.Errors, c.Warnings, strings.Join(lines, "\n"))
}

func interopCheck(t *testing.T, p *purposes, all map[string]sample) {
	type at struct{ what, theirs, ours string }
	archive := archived(t, all["rich"])
	places := []at{{"rich", all["rich"].uri, ""}, {"odd", all["odd"].uri, ""}, {"docker", all["docker"].uri, ""}, {"archive", "tar://" + archive, "tar://" + archive + ":rich:v1"}}
	for _, place := range places {
		if place.ours == "" {
			place.ours = place.theirs
		}
		for _, flag := range []string{"", "--fast"} {
			if flag != "" && place.what == "docker" {
				continue
			}
			args := append([]string{"-O", "json", "check"}, strings.Fields(flag)...)
			a := occystrapRun(t, append(args, place.theirs)...)
			b := run(t, append(args, "--plain-http", place.ours)...)
			if a.status != b.status {
				t.Errorf("check %s %s: occystrap's status is %d, ours %d", place.what, flag, a.status, b.status)
			}
			x, y := []byte(a.stdout), []byte(b.stdout)
			if !slices.Equal(keysOf(t, x), keysOf(t, y)) {
				t.Errorf("check %s %s: occystrap has the keys %q, we %q", place.what, flag, keysOf(t, x), keysOf(t, y))
			}
			var theirs, ours checked
			if err := errors.Join(json.Unmarshal(x, &theirs), json.Unmarshal(y, &ours)); err != nil {
				t.Fatal(err)
			}
			p.differs(t, "messages of `check`", !equalJSON(t, theirs, ours))
			if flag != "" && place.what != "archive" {
				all := len(ours.Results)
				ours.Results = slices.DeleteFunc(ours.Results, func(r struct{ Severity, Check, Message string }) bool {
					return r.Check == "config-digest" || r.Check == "config-size"
				})
				p.differs(t, "`check --fast`", len(ours.Results) == all-2)
			}
			if theirs.String() != ours.String() {
				t.Errorf("check %s %s: occystrap finds\n%s\nwe\n%s", place.what, flag, theirs, ours)
			}
		}
	}
}
