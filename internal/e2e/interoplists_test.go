//go:build interop

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

// listArchitectures are those of the lists that a generator makes, each with one
// variant in all of them.
var listArchitectures = []string{"386", "amd64", "arm", "arm64", "mips64le", "ppc64le", "riscv64", "s390x"}

var listVariants = map[string]string{"arm": "v7", "arm64": "v8"}

// A generator makes docker lists, spelt in all ways that JSON allows.
type generator struct {
	*rand.Rand
	accents bool // what isn't ASCII may stand there unescaped
}

// list makes a list. Of entries some are taken as they are.
func (g generator) list(entries []string) served {
	var out []string
	for _, i := range g.Perm(len(listArchitectures))[:g.IntN(6)] {
		a := listArchitectures[i]
		same := slices.IndexFunc(entries, func(e string) bool { return strings.Contains(e, fmt.Sprintf("%q", a)) })
		if same >= 0 && g.IntN(3) == 0 {
			out = append(out, entries[same])
		} else {
			out = append(out, g.entry(a))
		}
	}
	members := []string{`"schemaVersion":` + g.space() + `2`, `"mediaType": "` + oci.MediaTypeDockerList + `"`, `"manifests":` + g.space() + `[` + strings.Join(out, ","+g.space()) + `]`}
	return served{oci.MediaTypeDockerList, []byte(g.space() + g.object(members) + g.space())}
}

// entriesOf gives the entries of a list as they stand there.
func (g generator) entriesOf(l served) (out []string) {
	var list struct{ Manifests []json.RawMessage }
	if err := json.Unmarshal(l.raw, &list); err != nil {
		panic(err) // the generator's fault
	}
	for _, m := range list.Manifests {
		out = append(out, string(m))
	}
	return out
}

func (g generator) entry(architecture string) string {
	platform := []string{fmt.Sprintf(`"architecture":%s%q`, g.space(), architecture), `"os":"linux"`}
	if v := listVariants[architecture]; v != "" {
		platform = append(platform, fmt.Sprintf(`"variant": %q`, v))
	}
	return g.object([]string{
		fmt.Sprintf(`"mediaType":%q`, oci.MediaTypeDockerManifest),
		fmt.Sprintf(`"size": %d`, g.IntN(10_000)),
		fmt.Sprintf(`"digest":%q`, digest.FromString(fmt.Sprint(g.Uint64()))),
		`"platform":` + g.object(platform),
	})
}

// object makes an object of members, in any order, and others that nobody knows.
func (g generator) object(members []string) string {
	for i := range g.IntN(3) {
		members = append(members, fmt.Sprintf(`"x%d%s:%s%s`, i, g.text()[1:], g.space(), g.value(3)))
	}
	g.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return "{" + g.space() + strings.Join(members, g.space()+","+g.space()) + g.space() + "}"
}

// value makes any JSON, depth values deep at most. Numbers are spelt as Python does.
func (g generator) value(depth int) string {
	if depth == 0 {
		return g.text()
	}
	switch g.IntN(8) {
	case 0:
		return g.object(nil)
	case 1:
		var all []string
		for range g.IntN(3) {
			all = append(all, g.value(depth-1))
		}
		return "[" + g.space() + strings.Join(all, g.space()+",") + "]"
	case 2:
		return []string{"0", "-7", "123456789012345678901234567890", "0.5", "-3.75", "1e+22"}[g.IntN(6)]
	case 3:
		return []string{"true", "false", "null"}[g.IntN(3)]
	}
	return g.text()
}

func (g generator) text() string {
	pieces := []string{"a", "Z", "~", " ", "/", `\/`, `\"`, `\\`, `\n`, `\b\f\r\t`, `\u0000`, `\u001f`, `\u007F`, "<&>", `\u00e4`, `\uFFFF`, `\ud83d\ude00`, `\udc00`, `\ud800`}
	if g.accents {
		pieces = append(pieces, "ü", "€", "\u2028", "\uffff", "😀", "\x7f")
	}
	text := ""
	for range g.IntN(6) {
		text += pieces[g.IntN(len(pieces))]
	}
	return `"` + text + `"`
}

func (g generator) space() string { return []string{"", "", " ", "\n\t", "\r\n  "}[g.IntN(5)] }
