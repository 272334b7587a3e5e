package index_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// anyList gives a list in which much meets: few platforms, few digests, attestations
// about what is there, what isn't and each other. A digest is an image or an attestation
// about one digest, as it is wherever nobody lies.
func anyList(t *testing.T, r *rand.Rand) *index.Index {
	platforms := []string{"-", "linux/amd64", "linux/x86_64", "amd64", "linux/arm", "linux/arm/v7", "linux/arm/v6", "windows/amd64:10.0.1.1", "windows/amd64:10.0.1.2", "windows/amd64:10.0.2.1"}
	name := func() string { return fmt.Sprintf("%c%d", 'a'+r.IntN(4), 1+r.IntN(3)) }
	about := []string{"a1", "a2", "a3", "b1", "c2", "ff", "e1", "e2", "e3", "e4", "e9"}
	var entries []string
	for range r.IntN(7) {
		e := platforms[r.IntN(len(platforms))] + "=" + name()
		if i := r.IntN(3 * len(about)); i < len(about) {
			e = fmt.Sprintf("att:%s=e%d", about[i], i+1)
		} else if r.IntN(8) == 0 {
			e = "oci " + e
		}
		entries = append(entries, e)
	}
	mt := []oci.MediaType{oci.MediaTypeIndex, oci.MediaTypeDockerList}[r.IntN(2)]
	return list(t, mt, []string{"", top}[r.IntN(2)], entries...)
}

// TestMergeAny holds merges of lists that are made at random to what FuzzMerge asks,
// and to more: a selection takes nothing that it refuses, and no attestation of the
// destination stays without its image.
func TestMergeAny(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 6))
		source, dest := anyList(t, r), anyList(t, r)
		opt := index.Options{StrictOSVersion: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			opt.Eligible = func(p oci.Platform) bool { return p.Architecture != "amd64" }
		}
		if r.IntN(3) == 0 {
			opt.Style = index.Pubtools
		}
		res := merge(t, source, dest, opt)
		accounted(t, source, dest, res)
		if again := merge(t, source, &res.Index, opt); string(again.Raw) != string(res.Raw) {
			t.Fatalf("seed %d: %s\nmerged again %s\nof %s and %s", seed, brief(&res.Index), brief(&again.Index), brief(source), brief(dest))
		}
		for _, c := range res.Changes {
			if c.Action == index.Added && opt.Eligible != nil && !opt.Eligible(c.Platform) {
				t.Fatalf("seed %d: added %s", seed, index.Name(c.Platform))
			}
		}
		orphans(t, seed, source, dest, res)
		if t.Failed() {
			t.Fatalf("seed %d: %s\nof %s and %s", seed, brief(&res.Index), brief(source), brief(dest))
		}
	}
}

// orphans looks for attestations in res whose entry was left out.
func orphans(t *testing.T, seed uint64, source, dest *index.Index, res *index.Result) {
	t.Helper()
	has := func(ix *index.Index, d oci.Digest) bool {
		return strings.Contains(" "+digests(ix)+" ", " "+short(d)+" ")
	}
	for _, d := range res.Entries {
		about, is := index.Attests(d)
		from := source // or dest, unless both have it
		if !has(source, d.Digest) {
			from = dest
		} else if has(dest, d.Digest) {
			continue
		}
		if is && has(from, about) && !has(&res.Index, about) {
			t.Errorf("seed %d: %s is about %s, which is gone", seed, short(d.Digest), short(about))
		}
	}
}

// brief gives the entries of ix in a line.
func brief(ix *index.Index) string {
	var out []string
	for _, d := range ix.Entries {
		what := "-"
		if about, is := index.Attests(d); is {
			what = "att:" + short(about)
		} else if d.Platform != nil {
			what = index.Name(*d.Platform)
		}
		out = append(out, what+"="+short(d.Digest))
	}
	return strings.Join(out, " ")
}
