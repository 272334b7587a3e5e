package index_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/quaymaster/quaymaster/index"
	"github.com/quaymaster/quaymaster/oci"
)

// FuzzMerge holds merges of any two lists to what they promise: nothing that the
// destination has is lost unless a change says so, nothing comes from nowhere, and
// where digests don't lie about what they are a second merge finds nothing to do.
func FuzzMerge(f *testing.F) {
	seeds := []string{
		`{"schemaVersion":2,"manifests":[]}`,
		`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
			`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"` + string(long("aa")) + `","platform":{"os":"windows","architecture":"amd64","os.version":"10.0.1.2","os.features":["b","a"]}},` +
			`{"mediaType":"x","size":1,"digest":"` + string(long("ab")) + `","annotations":{"vnd.docker.reference.type":"t","vnd.docker.reference.digest":"` + string(long("aa")) + `"}}],"annotations":{"k":"\ud800"}}`,
		`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[` +
			`{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":1.0e1,"digest":"` + string(long("aa")) + `"},` +
			`{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":1,"digest":"` + string(long("ac")) + `","platform":{"architecture":"x86_64"}}], "x": [ {} , [ ] ] }`,
	}
	for _, a := range seeds {
		for _, b := range seeds {
			f.Add([]byte(a), []byte(b), byte(0))
			f.Add([]byte(b), []byte(a), byte(7))
		}
	}
	f.Fuzz(func(t *testing.T, a, b []byte, knobs byte) {
		source, err := index.Parse("", bytes.Clone(a))
		if err != nil {
			return
		}
		dest, err := index.Parse("", bytes.Clone(b))
		if err != nil {
			return
		}
		opt := index.Options{StrictOSVersion: knobs&1 != 0}
		if knobs&2 != 0 {
			opt.Eligible = func(p oci.Platform) bool { return len(p.Architecture)%2 == 1 }
		}
		if knobs&4 != 0 {
			opt.Style = index.Pubtools
		}
		if knobs&8 != 0 {
			opt.Type = "oci"
		}
		res, err := index.Merge(source, dest, opt)
		if err != nil {
			return // over a limit
		}
		if !bytes.Equal(source.Raw, a) || !bytes.Equal(dest.Raw, b) {
			t.Fatal("an input was changed")
		}
		if back, err := index.Parse(res.Desc.MediaType, res.Raw); err != nil || !reflect.DeepEqual(back.Desc, res.Desc) {
			t.Fatalf("%s is read as %v, %v; want %v", res.Raw, back, err, res.Desc)
		}
		accounted(t, source, dest, res)
		again, err := index.Merge(source, &res.Index, opt)
		if err != nil || honest(source, dest) && !bytes.Equal(again.Raw, res.Raw) {
			t.Fatalf("again: %v\n%s\n%s", err, res.Raw, again.Raw)
		}
	})
}

// honest reports whether each digest is an image, or an attestation about one digest.
func honest(lists ...*index.Index) bool {
	is := map[oci.Digest]string{}
	for _, ix := range lists {
		for _, d := range ix.Entries {
			about, att := index.Attests(d)
			role := fmt.Sprint(about, att)
			if is[d.Digest] != "" && is[d.Digest] != role {
				return false
			}
			is[d.Digest] = role
		}
	}
	return true
}

// accounted checks that each entry of res is one of its sources', and each image of
// dest in res or in a change.
func accounted(t *testing.T, source, dest *index.Index, res *index.Result) {
	t.Helper()
	from, left := map[oci.Digest]bool{}, map[oci.Digest]bool{}
	for _, d := range append(source.Entries[:len(source.Entries):len(source.Entries)], dest.Entries...) {
		from[d.Digest] = true
	}
	images := 0
	for _, d := range res.Entries {
		if !from[d.Digest] {
			t.Fatalf("%s is nobody's", d.Digest)
		}
		if _, is := index.Attests(d); !is {
			images++
		}
	}
	for _, c := range res.Changes {
		left[c.Old], left[c.New] = true, true
		if c.Action != index.Dropped {
			images--
		}
	}
	if images != 0 {
		t.Fatalf("%d images more than changes: %v", images, res.Changes)
	}
	for _, d := range dest.Entries {
		if _, is := index.Attests(d); !is && !left[d.Digest] {
			t.Fatalf("%s is lost without a word", d.Digest)
		}
	}
}

// FuzzPubtools: the style says what was there, in ASCII, and leaves what is in it as it is.
func FuzzPubtools(f *testing.F) {
	f.Add(`{"a":[1,{},[ ],"\u00e4\ud83d\ude00<ü😀\/\b"],"":null,"A":-1.50E+3,"z":{"y":true}}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, member string) {
		raw := []byte(`{"schemaVersion":2,"manifests":[],"x":` + member + `}`)
		ix, err := index.Parse("", bytes.Clone(raw))
		if err != nil {
			return
		}
		res, err := index.Merge(ix, parse(t, "", `{"schemaVersion":2,"manifests":[]}`), index.Options{Style: index.Pubtools})
		if err != nil {
			return // over a limit
		}
		if i := bytes.IndexFunc(res.Raw, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
			t.Fatalf("%q at %d", res.Raw, i)
		}
		var want, got any
		for v, raw := range map[*any][]byte{&want: raw, &got: res.Raw} {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.UseNumber()
			if err := d.Decode(v); err != nil {
				t.Fatalf("%v in %s", err, raw)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		again, err := index.Merge(&res.Index, ix, index.Options{Style: index.Pubtools})
		if err != nil || !bytes.Equal(again.Raw, res.Raw) {
			t.Fatalf("again: %v\n%s\n%s", err, res.Raw, again.Raw)
		}
	})
}
