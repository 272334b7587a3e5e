package publish

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/oci"
)

// dig is the digest of what tests call name.
func dig(name string) oci.Digest { return digest.FromString(name) }

func hexOf(name string) string { return dig(name).Encoded() }

// scanOf makes a scan of "tag name" and "index > child child" lines.
func scanOf(lines ...string) *scan {
	s := newScan(oci.Ref{Registry: "quay.io", Repository: "name/repo"})
	for _, line := range lines {
		index, children, ok := strings.Cut(line, " > ")
		if !ok {
			tag, name, _ := strings.Cut(line, " ")
			s.tags[tag] = dig(name)
			continue
		}
		var all []oci.Digest
		for c := range strings.FieldsSeq(children) {
			all = append(all, dig(c))
		}
		s.children[dig(index)] = all
	}
	return s
}

// fixture is two tags of a list of five platforms, and two of another image.
var fixture = []string{"1 L", "2 L", "3 V", "4 V", "L > amd64 arm64 arm ppc64le s390x", "V > "}

func TestLost(t *testing.T) {
	sig, att, sbom := func(n string) string { return "sha256-" + hexOf(n) + ".sig" },
		func(n string) string { return "sha256-" + hexOf(n) + ".att" },
		func(n string) string { return "sha256-" + hexOf(n) + ".sbom" }
	list := func(n string) string { return "sha256-" + hexOf(n) }
	tests := []struct {
		name      string
		have      []string
		refers    map[string]string // subject to its referrers
		remove    []string
		lost      string
		companion []string // tags that go along
	}{
		{"A53 another tag has it", fixture, nil, []string{"1"}, "", nil},
		{"A54 the last tags of a list", fixture, nil, []string{"1", "2"}, "L amd64 arm64 arm ppc64le s390x", nil},
		{"a tag that isn't there", fixture, nil, []string{"9"}, "", nil},
		{"named twice", fixture, nil, []string{"1", "1"}, "", nil},
		{"first seen, not first freed", []string{"a A", "b B", "A > x shared", "B > shared y"}, nil, []string{"b", "a"}, "B shared y A x", nil},
		{"a child that another list holds", []string{"a A", "b B", "A > x shared", "B > shared"}, nil, []string{"a"}, "A x", nil},
		{"a child with a tag of its own", []string{"a A", "amd64 x", "A > x y"}, nil, []string{"a"}, "A y", nil},
		{"only that tag of a child", []string{"a A", "amd64 x", "A > x y"}, nil, []string{"amd64"}, "", nil},
		{"lists in lists", []string{"a A", "b C", "A > B x", "B > C y", "C > z"}, nil, []string{"a"}, "A B y x", nil},
		{"lists in lists, all", []string{"a A", "b C", "A > B x", "B > C y", "C > z"}, nil, []string{"b", "a"}, "C z A B y x", nil},
		{"what isn't readable reaches nothing", []string{"a A", "old schema1"}, nil, []string{"a"}, "A", nil},

		{
			"A56 companions, and theirs",
			append([]string{att("amd64") + " fedcba", sig("amd64") + " s1", sig("fedcba") + " s2", sig("other") + " s3"}, fixture...), nil,
			[]string{"1", "2"},
			"L amd64 arm64 arm ppc64le s390x",
			[]string{att("amd64"), sig("amd64"), sig("fedcba")},
		},
		{
			"A companion stays with its subject",
			[]string{"a A", "b B", "A > x", "B > x", sig("x") + " s", sig("A") + " t", sbom("A") + " u"}, nil,
			[]string{"a"}, "A", []string{sbom("A"), sig("A")},
		},
		{
			"the signature of an attestation that has another tag stays",
			[]string{"a A", "keep att", att("A") + " att", sig("att") + " s"}, nil,
			[]string{"a"}, "A", []string{att("A")},
		},
		{
			"a signature that is removed by name is lost",
			[]string{"a A", sig("A") + " s"}, nil, []string{sig("A")}, "s", nil,
		},
		{
			"a signature that is removed with its image is named once",
			[]string{"a A", sig("A") + " s"}, nil, []string{"a", sig("A")}, "A s", nil,
		},
		{
			"referrers, and what is about them",
			[]string{"a A", sig("r") + " s"}, map[string]string{"A": "r q", "r": "rr", "s": "rs"},
			[]string{"a"}, "A r q rr", []string{sig("r")},
		},
		{
			"a referrer with a tag stays, and what is about it",
			[]string{"a A", "sbom r", sig("r") + " s"}, map[string]string{"A": "r"},
			[]string{"a"}, "A", nil,
		},
		{
			"a referrer that is a list",
			[]string{"a A", "b B", "B > shared", "r > own shared"}, map[string]string{"A": "r"},
			[]string{"a"}, "A r own", nil,
		},
		{
			"the tag that lists referrers",
			[]string{"a A", list("A") + " list", "list > r", sig("r") + " s"}, map[string]string{"A": "r"},
			[]string{"a"}, "A r", []string{list("A"), sig("r")},
		},
		{
			"an image with the name of such a tag",
			[]string{"a A", list("A") + " image"}, nil,
			[]string{"a"}, "A", nil,
		},
		{
			"a referrer that what goes later held",
			[]string{"a A", att("q") + " r"}, map[string]string{"A": "r q"},
			[]string{"a"}, "A r q", []string{att("q")},
		},
		{
			"referrers that lead in a circle",
			[]string{"a A"}, map[string]string{"A": "r", "r": "A q", "q": "r"},
			[]string{"a"}, "A r q", nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newRemoval(scanOf(tt.have...), tt.remove)
			for asked := m.follow(); len(asked) > 0; asked = m.follow() {
				for _, subject := range asked {
					for name, referrers := range tt.refers {
						for r := range strings.FieldsSeq(referrers) {
							if dig(name) == subject {
								m.refer(subject, dig(r))
							}
						}
					}
				}
			}
			var want []oci.Digest
			for name := range strings.FieldsSeq(tt.lost) {
				want = append(want, dig(name))
			}
			if got := m.lost(); !slices.Equal(got, want) {
				t.Errorf("lost %v, want %v (%s)", got, want, tt.lost)
			}
			var along []string
			for _, c := range m.along {
				along = append(along, c.tag)
			}
			slices.Sort(along)
			slices.Sort(tt.companion)
			if !slices.Equal(along, tt.companion) {
				t.Errorf("these go along: %v, want %v", along, tt.companion)
			}
		})
	}
}

// A referrer is read when its subject is lost, and may hold what died before: that is
// not released again, with what lives under another tag.
func TestLostIsReleasedOnce(t *testing.T) {
	sig := "sha256-" + hexOf("g") + ".sig"
	s := scanOf("a A", "b g", sig+" s", "A > c", "c > g")
	m := newRemoval(s, []string{"a"})
	m.follow()
	s.children[dig("r")] = []oci.Digest{dig("c")}
	m.refer(dig("A"), dig("r"))
	m.follow()
	if m.dead[dig("g")] || len(m.along) > 0 {
		t.Errorf("g is dead: %v; these go along: %v", m.dead[dig("g")], m.along)
	}
	if got, want := m.lost(), []oci.Digest{dig("A"), dig("c"), dig("r")}; !slices.Equal(got, want) {
		t.Errorf("lost %v, want %v", got, want)
	}
}

// What is lost is by definition what the removed tags reach and the others don't.
func TestLostAgreesWithReach(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		s := scanOf()
		const nodes = 12
		name := func(i int) oci.Digest { return dig(fmt.Sprint(i)) }
		for i := range nodes { // to what comes later only: there are no circles of digests
			once := map[oci.Digest]bool{}
			for range rng.IntN(4) {
				if i+1 < nodes {
					once[name(i+1+rng.IntN(nodes-i-1))] = true
				}
			}
			s.children[name(i)] = slices.Collect(maps.Keys(once))
		}
		var tags, removed []string
		for i := range 8 {
			tag := fmt.Sprint("t", i)
			tags = append(tags, tag)
			s.tags[tag] = name(rng.IntN(nodes))
			if rng.IntN(2) == 0 {
				removed = append(removed, tag)
			}
		}
		reached := map[oci.Digest]bool{}
		for _, tag := range tags {
			reachFrom(s, s.tags[tag], reached)
		}
		for c := range s.children { // what no tag reaches the scan wouldn't have
			if !reached[c] {
				delete(s.children, c)
			}
		}
		without, with := map[oci.Digest]bool{}, map[oci.Digest]bool{}
		for _, tag := range tags {
			if slices.Contains(removed, tag) {
				reachFrom(s, s.tags[tag], with)
			} else {
				reachFrom(s, s.tags[tag], without)
			}
		}
		maps.DeleteFunc(with, func(c oci.Digest, _ bool) bool { return without[c] })
		got := map[oci.Digest]bool{}
		for _, c := range newRemoval(s, removed).lost() {
			got[c] = true
		}
		if !maps.Equal(got, with) {
			t.Fatalf("seed %d: lost %v, want %v", seed, got, with)
		}
	}
}

func reachFrom(s *scan, d oci.Digest, into map[oci.Digest]bool) {
	if into[d] {
		return
	}
	into[d] = true
	for _, c := range s.children[d] {
		reachFrom(s, c, into)
	}
}

func TestKeeping(t *testing.T) {
	sig := func(n string) string { return "sha256-" + hexOf(n) + ".sig" }
	s := scanOf(
		"v1 A", "v2 B", "A > x", "B > y",
		sig("A")+" sA", sig("x")+" sx", sig("B")+" sB", sig("sx")+" ssx", sig("r")+" sr", "sha256-"+hexOf("A")+" list", "list > r",
	)
	k := newKeeping(s)
	k.keep("v1")
	k.keep("v9")
	for asked := k.follow(); len(asked) > 0; asked = k.follow() {
		for _, subject := range asked {
			if subject == dig("x") {
				k.refer(subject, dig("r2"))
			}
		}
	}
	want := []string{"sha256-" + hexOf("A"), sig("A"), sig("r"), sig("sx"), sig("x"), "v1"}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(k.tags)); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

func TestKindOf(t *testing.T) {
	tests := map[string]companion.Kind{
		"v1": "", "sha256-" + hexOf("a"): companion.Referrer, "sha256-" + hexOf("a") + ".sig": companion.Signature,
		"sha256-" + hexOf("a") + ".att": companion.Attestation, "sha256-" + hexOf("a") + ".sbom": companion.SBOM,
		"sha256-abc": "", "sha256-" + strings.ToUpper(hexOf("a")): "", "latest-1": "", hexOf("a"): "",
	}
	for tag, want := range tests {
		if got := kindOf(tag); got != want {
			t.Errorf("%s: got %q, want %q", tag, got, want)
		}
	}
}
