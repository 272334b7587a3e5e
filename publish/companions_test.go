package publish_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// A voyage goes from one Quay to another: companions from org/src to org/app.
type voyage struct {
	t              *testing.T
	from, to       *quaytest.Server
	source, dest   string // hosts
	sourceEnv, env backend.Env
	fault          func(*http.Request) quaytest.Fault // of the destination; nil: none
}

func newVoyage(t *testing.T, from, to quaytest.Options) *voyage {
	t.Helper()
	v := &voyage{t: t, from: quaytest.New(from)}
	to.TagCache = -1
	to.Fault = func(r *http.Request) quaytest.Fault {
		if v.fault == nil {
			return quaytest.Fault{}
		}
		return v.fault(r)
	}
	v.to = quaytest.New(to)
	v.to.CreateUser("alice", "secret")
	v.to.CreateOrg("org", "alice")
	open := func(s *quaytest.Server, creds func(host string) transport.CredentialFunc) (string, backend.Env) {
		run := s.Start()
		t.Cleanup(run.Close)
		tr, err := transport.New(transport.Options{Credentials: creds(run.Host), Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tr.CloseIdle)
		return run.Host, backend.Env{HTTP: tr.Client(), PlainHTTP: true}
	}
	v.source, v.sourceEnv = open(v.from, func(string) transport.CredentialFunc { return nil })
	v.dest, v.env = open(v.to, func(host string) transport.CredentialFunc { return transport.Fixed(host, "alice", "secret") })
	return v
}

func (v *voyage) publisher() *publish.Publisher {
	return &publish.Publisher{Source: v.sourceEnv, Dest: v.env, Companions: true}
}

// tag lets org/app:name at the destination mean the source's tag name.
func (v *voyage) tag(p *publish.Publisher, name string) (*publish.Report, error) {
	v.t.Helper()
	return p.Tag(v.t.Context(), oci.Ref{Registry: v.source, Repository: "org/src", Tag: name},
		[]oci.Ref{{Registry: v.dest, Repository: "org/app", Tag: name}}, publish.TagOptions{})
}

// push puts img into a repository past all that is counted.
func (v *voyage) push(s *quaytest.Server, repo, tag string, img imagetest.Image) imagetest.Image {
	v.t.Helper()
	if err := s.Push(v.t.Context(), repo, tag, img); err != nil {
		v.t.Fatal(err)
	}
	return img
}

// signedBy makes what cosign keeps: a manifest with a layer for each of signatures,
// all of one payload; it is about subject if that isn't nil.
func (v *voyage) signedBy(subject *imagetest.Image, signatures ...string) imagetest.Image {
	v.t.Helper()
	payload := imagetest.Blob("application/vnd.dev.cosign.simplesigning.v1+json", []byte(`{"critical":{}}`))
	cfg := imagetest.Blob(ocispec.MediaTypeImageConfig, []byte(fmt.Sprintf(`{"rootfs":{"type":"layers"},"n":%d}`, len(signatures))))
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: cfg.Desc}
	m.SchemaVersion = 2
	for _, s := range signatures {
		d := payload.Desc
		d.Annotations = map[string]string{"dev.cosignproject.cosign/signature": s}
		m.Layers = append(m.Layers, d)
	}
	if subject != nil {
		m.ArtifactType, m.Subject = "application/x.test", &subject.Desc
	}
	raw, err := json.Marshal(m)
	if err != nil {
		v.t.Fatal(err)
	}
	return imagetest.Image{
		Desc: imagetest.Blob(m.MediaType, raw).Desc, Raw: raw,
		Blobs: map[oci.Digest][]byte{payload.Desc.Digest: payload.Bytes, cfg.Desc.Digest: cfg.Bytes},
	}
}

func cosignTag(about imagetest.Image, suffix string) string {
	return strings.Replace(string(about.Desc.Digest), ":", "-", 1) + suffix
}

// means gives what a tag of org/app means at the destination, "" for nothing.
func (v *voyage) means(tag string) oci.Digest {
	v.t.Helper()
	repo, err := registry.OpenRepository(oci.Ref{Registry: v.dest, Repository: "org/app"}, v.env)
	if err != nil {
		v.t.Fatal(err)
	}
	d, _ := repo.Head(v.t.Context(), tag)
	return d.Digest
}

// told gives what a report says of companions: "signature pushed", in its order.
func told(r *publish.Report) []string {
	var out []string
	for _, item := range r.Items {
		for _, c := range item.Changes {
			if c.Companion != "" {
				out = append(out, c.Companion+" "+string(c.Status))
			}
		}
	}
	return out
}

// An index with companions of itself, of an image of it and of companions.
func TestCompanionsOfAnIndex(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to quaytest.Options
	}{
		{"referrers API", quaytest.Options{}, quaytest.Options{}},
		{"the destination has none", quaytest.Options{}, quaytest.Options{NoReferrers: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVoyage(t, tt.from, tt.to)
			child := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
			root := imagetest.Index(child)
			for _, tag := range []string{"v1", "v2"} {
				v.push(v.from, "org/src", tag, root)
			}
			v.push(v.from, "org/src", cosignTag(root, ".sig"), v.signedBy(nil, "root"))
			att := v.push(v.from, "org/src", cosignTag(child, ".att"), v.signedBy(nil, "attestation"))
			v.push(v.from, "org/src", cosignTag(child, ".sbom"), v.signedBy(nil, "sbom"))
			v.push(v.from, "org/src", cosignTag(att, ".sig"), v.signedBy(nil, "of the attestation"))
			first := v.push(v.from, "org/src", "", v.signedBy(&child, "referrer"))
			second := v.push(v.from, "org/src", "", v.signedBy(&first, "referrer of a referrer"))
			v.from.Reset()

			report, err := v.tag(v.publisher(), "v1")
			if err != nil {
				t.Fatal(err)
			}
			want := []string{
				"signature pushed", "attestation pushed", "sbom pushed", "referrer pushed", // of the index and its image
				"signature pushed", "referrer pushed", // of those
			}
			if got := told(report); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			// 8 manifests: the two of the image and six companions.
			if n := v.from.Counts(); n["v2.referrers"] != 8 || n["v2.tags"] != 0 || n["v2.manifest.head"] != 3*8 {
				t.Errorf("the source was asked %v, want referrers and 3 tags of 8 manifests", n)
			}
			repo, err := registry.OpenRepository(oci.Ref{Registry: v.dest, Repository: "org/app"}, v.env)
			if err != nil {
				t.Fatal(err)
			}
			found, err := companion.Find(t.Context(), repo, []oci.Digest{root.Desc.Digest, child.Desc.Digest}, nil)
			if err != nil || len(found) != 6 || !slices.ContainsFunc(found, func(c companion.Companion) bool { return c.Desc.Digest == second.Desc.Digest }) {
				t.Errorf("the destination has %v, %v, want six companions", found, err)
			}

			v.to.Reset()
			if report, err = v.tag(v.publisher(), "v2"); err != nil {
				t.Fatal(err)
			}
			for i := range want {
				want[i] = strings.Replace(want[i], "pushed", "unchanged", 1)
			}
			if got := told(report); !slices.Equal(got, want) {
				t.Errorf("the second tag: got %q, want %q", got, want)
			}
			if n := v.to.Counts()["v2.manifest.put"]; n != 1 {
				t.Errorf("the second tag put %d manifests, want its own", n)
			}
		})
	}
}

// What the destination's own signatures come to.
func TestNoSignatureIsLost(t *testing.T) {
	tests := []struct {
		name           string
		theirs, source []string // signatures
		status         string
		replaced       bool
		warnings       int
	}{
		{"the source has more", []string{"a"}, []string{"a", "b"}, "signature pushed", true, 0},
		{"the same in another order", []string{"b", "a"}, []string{"a", "b"}, "signature pushed", true, 0},
		{"the destination has more", []string{"a", "b"}, []string{"b"}, "signature kept", false, 0},
		{"each has one that the other lacks", []string{"a", "b"}, []string{"b", "c"}, "signature kept", false, 1},
		{"the same payload by another key", []string{"a"}, []string{"b"}, "signature kept", false, 1},
		{"the same", []string{"a"}, []string{"a"}, "signature unchanged", false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
			img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
			v.push(v.from, "org/src", "v1", img)
			theirs, ours := v.signedBy(nil, tt.theirs...), v.signedBy(nil, tt.source...)
			v.push(v.from, "org/src", cosignTag(img, ".sig"), ours)
			v.push(v.from, "org/src", cosignTag(ours, ".att"), v.signedBy(nil, "about it"))
			v.push(v.to, "org/app", cosignTag(img, ".sig"), theirs)
			var warnings []string
			p := v.publisher()
			p.Warn = func(line string) { warnings = append(warnings, line) }
			report, err := v.tag(p, "v1")
			if err != nil {
				t.Fatal(err)
			}
			want := theirs.Desc.Digest
			if tt.replaced {
				want = ours.Desc.Digest
			}
			if got := v.means(cosignTag(img, ".sig")); got != want {
				t.Errorf("the signature is %s, want %s", got, want)
			}
			// What is about a signature goes along only if that is there.
			if there := v.means(cosignTag(ours, ".att")) != ""; there != (want == ours.Desc.Digest) {
				t.Errorf("the attestation of the source's signature is there: %t, the signature is %s", there, want)
			}
			if got := told(report); got[0] != tt.status {
				t.Errorf("got %q, want %q first", got, tt.status)
			}
			if len(warnings) != tt.warnings {
				t.Errorf("warned %q, want %d", warnings, tt.warnings)
			}
		})
	}
}

// One SBOM of two images. The destination has its own of one of them, which stays;
// for the other the SBOM goes along, and so does what is about it.
func TestCompanionOfTwoImages(t *testing.T) {
	v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
	child := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	root := imagetest.Index(child)
	v.push(v.from, "org/src", "v1", root)
	sbom, theirs := v.signedBy(nil, "sbom"), v.signedBy(nil, "their sbom")
	v.push(v.from, "org/src", cosignTag(root, ".sbom"), sbom)
	v.push(v.from, "org/src", cosignTag(child, ".sbom"), sbom)
	sig := v.push(v.from, "org/src", cosignTag(sbom, ".sig"), v.signedBy(nil, "of the sbom"))
	v.push(v.to, "org/app", cosignTag(root, ".sbom"), theirs)
	report, err := v.tag(v.publisher(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := told(report), []string{"sbom kept", "sbom pushed", "signature pushed"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for tag, want := range map[string]imagetest.Image{cosignTag(root, ".sbom"): theirs, cosignTag(child, ".sbom"): sbom, cosignTag(sbom, ".sig"): sig} {
		if got := v.means(tag); got != want.Desc.Digest {
			t.Errorf("%s is %q, want %s", tag, got, want.Desc.Digest)
		}
	}
}

// Somebody signs at the destination while the image is on its way.
func TestCompanionThatMoves(t *testing.T) {
	v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	ours, theirs := v.signedBy(nil, "a"), v.signedBy(nil, "b")
	v.push(v.from, "org/src", "v1", img)
	v.push(v.from, "org/src", cosignTag(img, ".sig"), ours)
	v.fault = func(r *http.Request) quaytest.Fault {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, string(ours.Desc.Digest)) {
			v.push(v.to, "org/app", cosignTag(img, ".sig"), theirs)
		}
		return quaytest.Fault{}
	}
	report, err := v.tag(v.publisher(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := v.means(cosignTag(img, ".sig")); got != theirs.Desc.Digest {
		t.Errorf("the signature is %s, want theirs, %s", got, theirs.Desc.Digest)
	}
	if got := told(report); !slices.Equal(got, []string{"signature kept"}) {
		t.Errorf("got %q, want that it was kept", got)
	}
}

// A run that fails puts back the tags of companions as well.
func TestCompanionsAreRolledBack(t *testing.T) {
	v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	v.push(v.from, "org/src", "v1", img)
	v.push(v.from, "org/src", cosignTag(img, ".sig"), v.signedBy(nil, "a", "b"))
	v.push(v.from, "org/src", cosignTag(img, ".sbom"), v.signedBy(nil, "sbom"))
	old := v.push(v.to, "org/app", cosignTag(img, ".sig"), v.signedBy(nil, "a"))
	moved := false
	v.fault = func(r *http.Request) quaytest.Fault {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			moved = v.means(cosignTag(img, ".sig")) != old.Desc.Digest
			return quaytest.Fault{Status: http.StatusForbidden}
		}
		return quaytest.Fault{}
	}
	if _, err := v.tag(v.publisher(), "v1"); err == nil {
		t.Fatal("want an error")
	}
	if !moved {
		t.Error("the signature wasn't there before the image's own tag")
	}
	if got := v.means(cosignTag(img, ".sig")); got != old.Desc.Digest {
		t.Errorf("the signature is %q, want the old one again", got)
	}
	if got := v.means(cosignTag(img, ".sbom")); got != "" {
		t.Errorf("the SBOM is %q, want none again", got)
	}
}

// A run with many items of one repository lists its tags once, and asks nothing of a
// manifest twice.
func TestCompanionsOfManyItems(t *testing.T) {
	v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
	const n = 15
	var plan strings.Builder
	for i := range n {
		img := imagetest.New(imagetest.Linux, nil, imagetest.Random(uint64(i), 1000))
		tag := fmt.Sprintf("v%d", i)
		v.push(v.from, "org/src", tag, img)
		v.push(v.from, "org/src", cosignTag(img, ".sig"), v.signedBy(nil, tag))
		fmt.Fprintf(&plan, "- pull_url: org/src:%s\n  tags:\n    one: [%s]\n    two: [%s]\n", tag, tag, tag)
	}
	items, err := publish.ParsePlan("plan.yaml", []byte(plan.String()), publish.PlanOptions{
		Registry: v.dest, Namespace: "org", SourceRegistry: v.source, Names: publish.NamesFlatten,
	})
	if err != nil {
		t.Fatal(err)
	}
	v.from.Reset()
	report, err := v.publisher().Push(t.Context(), items, publish.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := told(report); len(got) != 2*n {
		t.Errorf("got %q, want %d signatures", got, 2*n)
	}
	got := v.from.Counts()
	if got["v2.tags"] != 1 || got["v2.referrers"] != 2*n || got["v2.manifest.head"] > 30+n {
		t.Errorf("the source was asked %v, want one listing, %d questions for referrers and few HEADs", got, 2*n)
	}
}

func TestNoCompanions(t *testing.T) {
	v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	v.push(v.from, "org/src", "v1", img)
	v.push(v.from, "org/src", cosignTag(img, ".sig"), v.signedBy(nil, "a"))
	v.from.Reset()
	p := v.publisher()
	p.Companions = false
	report, err := v.tag(p, "v1")
	if err != nil {
		t.Fatal(err)
	}
	n := v.from.Counts()
	if got := told(report); len(got) != 0 || v.means(cosignTag(img, ".sig")) != "" || n["v2.referrers"]+n["v2.tags"]+n["v2.manifest.head"] != 0 {
		t.Errorf("got %q after %v, want no companion, and none looked for", got, n)
	}
}
