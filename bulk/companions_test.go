package bulk_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/ocidir"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/companion"
	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// artifact makes a manifest that holds text, and is about subject unless that is nil.
func artifact(t *testing.T, text string, subject *imagetest.Image) imagetest.Image {
	t.Helper()
	cfg, body := imagetest.Blob("application/vnd.oci.empty.v1+json", []byte("{}")), imagetest.Blob("application/x.test", []byte(text))
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: cfg.Desc, Layers: []oci.Descriptor{body.Desc}}
	m.SchemaVersion = 2
	if subject != nil {
		m.ArtifactType = "application/x.test.artifact"
		m.Subject = &oci.Descriptor{MediaType: subject.Desc.MediaType, Digest: subject.Desc.Digest, Size: subject.Desc.Size}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return imagetest.Image{
		Desc: imagetest.Blob(m.MediaType, raw).Desc, Raw: raw,
		Blobs: map[oci.Digest][]byte{cfg.Desc.Digest: cfg.Bytes, body.Desc.Digest: body.Bytes},
	}
}

// tagOf gives cosign's tag of img that ends in suffix.
func tagOf(img imagetest.Image, suffix string) string {
	return strings.Replace(string(img.Desc.Digest), ":", "-", 1) + suffix
}

// A signedRepo is a repository of a Quay with all kinds of companions.
type signedRepo struct {
	root, single imagetest.Image
	subjects     []oci.Digest // of both
	companions   []string     // tags and digests of what is about them, sorted
}

// fill puts it into repo: the index root as v1 and v2, with companions of itself, of
// its images and of companions, and a signed image single as v3.
func fill(t *testing.T, s *quaytest.Server, repo string, api bool) signedRepo {
	t.Helper()
	push := func(tag string, img imagetest.Image) imagetest.Image {
		t.Helper()
		if err := s.Push(t.Context(), repo, tag, img); err != nil {
			t.Fatal(err)
		}
		return img
	}
	amd := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	arm := imagetest.New(oci.Platform{OS: "linux", Architecture: "arm64"}, nil, imagetest.Random(2, 1000))
	r := signedRepo{root: imagetest.Index(amd, arm), single: imagetest.New(imagetest.Linux, nil, imagetest.Random(3, 1000))}
	push("v1", r.root)
	push("v2", r.root)
	push("v3", r.single)
	r.subjects = []oci.Digest{r.root.Desc.Digest, amd.Desc.Digest, arm.Desc.Digest, r.single.Desc.Digest}
	tagged := func(about imagetest.Image, suffix string) imagetest.Image {
		t.Helper()
		r.companions = append(r.companions, tagOf(about, suffix))
		return push(tagOf(about, suffix), artifact(t, repo+suffix+" of "+string(about.Desc.Digest), nil))
	}
	refers := func(about imagetest.Image) imagetest.Image {
		t.Helper()
		img := artifact(t, repo+" about "+string(about.Desc.Digest), &about)
		r.companions = append(r.companions, string(img.Desc.Digest))
		push("", img)
		if api {
			return img
		}
		list := imagetest.Image{Children: []imagetest.Image{img}, Blobs: map[oci.Digest][]byte{}}
		list.Raw = []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			oci.MediaTypeIndex, img.Desc.MediaType, img.Desc.Digest, img.Desc.Size))
		list.Desc = imagetest.Blob(oci.MediaTypeIndex, list.Raw).Desc
		return push(tagOf(about, ""), list).Children[0]
	}
	tagged(r.root, ".sig")
	tagged(amd, ".sbom")
	tagged(tagged(arm, ".att"), ".sig")
	tagged(refers(r.root), ".sig")
	refers(refers(amd))
	tagged(r.single, ".sig")
	slices.Sort(r.companions)
	return r
}

// about gives what repo of host has about r's images, as r's companions are.
func (r signedRepo) about(t *testing.T, host, repo string, env backend.Env) []string {
	t.Helper()
	place, err := registry.OpenRepository(oci.Ref{Registry: host, Repository: repo}, env)
	if err != nil {
		t.Fatal(err)
	}
	found, err := companion.Find(t.Context(), place, r.subjects, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range found {
		if c.Tag == "" {
			c.Tag = string(c.Desc.Digest)
		}
		out = append(out, c.Tag)
	}
	slices.Sort(out)
	return out
}

// Two registries, each with the referrers API and without.
func TestCompanionsTravel(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to quaytest.Options
	}{
		{"referrers API", quaytest.Options{}, quaytest.Options{}},
		{"neither has it", quaytest.Options{NoReferrers: true}, quaytest.Options{NoReferrers: true}},
		{"only the source has it", quaytest.Options{}, quaytest.Options{NoReferrers: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := quaytest.New(tt.from), quaytest.New(tt.to)
			fromRun, toRun := from.Start(), to.Start()
			defer fromRun.Close()
			defer toRun.Close()
			r := fill(t, from, "org/app", !tt.from.NoReferrers)
			to.CreateUser("u", "p")
			to.CreateOrg("mirror", "u")
			toEnv := sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(toRun.Host, "u", "p")})
			src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
			for _, tag := range []string{"v1", "v2", "v3"} {
				src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: fromRun.Host, Repository: "org/app", Tag: tag}, Bytes: -1})
			}
			naming := bulk.Options{Name: bulk.Naming{Registry: toRun.Host, Prefix: "mirror", StripNamespace: true}.Name}
			from.Reset()
			run := func() *oci.Report {
				t.Helper()
				dst := openTarget(t, "registry://"+toRun.Host, toEnv)
				all, opt, err := bulk.WithCompanions(src, dst, naming)
				if err != nil {
					t.Fatal(err)
				}
				return mustCopy(t, all, dst, opt)
			}
			rep := run()
			if want := 3 + len(r.companions); rep.Totals.Copied != want || rep.Totals.Verified != want {
				t.Errorf("got %+v, want 3 images and %d companions copied", rep.Totals, len(r.companions))
			}
			if got := r.about(t, toRun.Host, "mirror/app", toEnv); !slices.Equal(got, r.companions) {
				t.Errorf("the destination has\n%q, want\n%q", got, r.companions)
			}
			var names []string
			for _, i := range rep.Images {
				names = append(names, i.Reference)
			}
			if at := slices.Index(names, fromRun.Host+"/org/app:"+tagOf(r.root, ".sig")); at < 1 || !strings.HasSuffix(names[0], ":v1") {
				t.Errorf("the order was %q, want images before what is about them", names)
			}

			to.Reset()
			if again := run(); again.Totals.Skipped != rep.Totals.Images {
				t.Errorf("second run: %+v, want all skipped", again.Totals)
			}
			if n := to.Counts()["v2.manifest.put"]; n != 0 {
				t.Errorf("second run put %d manifests, want none", n)
			}
		})
	}
}

// What companions cost the source: one listing of tags for each repository, one
// question for the referrers of each manifest, and each manifest is read once.
func TestRequestsForCompanions(t *testing.T) {
	s := quaytest.New(quaytest.Options{StreamBlobs: true})
	run := s.Start()
	defer run.Close()
	const n = 12
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	for i := range n { // of two repositories, one after the other
		img, repo, tag := app(i), fmt.Sprintf("org/app-%d", i/(n/2)), fmt.Sprintf("v%02d", i)
		for name, m := range map[string]imagetest.Image{tag: img, tagOf(img, ".sig"): artifact(t, tag, nil)} {
			if err := s.Push(t.Context(), repo, name, m); err != nil {
				t.Fatal(err)
			}
		}
		src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: run.Host, Repository: repo, Tag: tag}, Bytes: -1})
	}
	dst := layout(t)
	for _, listing := range []string{"unknown", "known", "known, but not whether they are indexes"} {
		t.Run("digests are "+listing, func(t *testing.T) {
			for i := range src.items {
				if src.items[i].Desc.Digest = ""; listing != "unknown" {
					src.items[i].Desc.Digest = app(i).Desc.Digest
				}
				if src.items[i].Bytes = -1; listing == "known" {
					src.items[i].Bytes = 1000
				}
			}
			all, opt, err := bulk.WithCompanions(src, dst, bulk.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s.Reset()
			rep := mustCopy(t, all, dst, opt)
			if got := rep.Totals.Copied + rep.Totals.Skipped; got != 2*n {
				t.Errorf("got %+v, want %d images and signatures", rep.Totals, 2*n)
			}
			got := withoutRefusals(s)
			// 6 images have 18 tags, their signatures 18 more: listed for once it would
			// be more than 30.
			want := map[string]int{"v2.referrers": 2 * n, "v2.tags": 2}
			for kind, most := range want {
				if got[kind] > most || got[kind] < most && kind == "v2.referrers" {
					t.Errorf("%d %s, want %d", got[kind], kind, most)
				}
			}
			if got["v2.manifest.head"] > 2*30+n {
				t.Errorf("%d HEADs, want at most 30 for each repository, and one for each signature", got["v2.manifest.head"])
			}
			gets := 2 * n // copied for the first time
			switch {
			case rep.Totals.Copied == 0 && listing == "known":
				gets = 0
			case rep.Totals.Copied == 0:
				gets = n
			}
			if got["v2.manifest.get"] != gets {
				t.Errorf("%d manifests read, want %d", got["v2.manifest.get"], gets)
			}
		})
	}
}

// An image whose companions can't be found out fails; the others, and a registry
// without any, don't care.
func TestCompanionsThatCantBeFoundOut(t *testing.T) {
	s := quaytest.New(quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
		if quaytest.Kind(r) == "v2.referrers" && strings.Contains(r.URL.Path, "/bad/") {
			return quaytest.Fault{Status: http.StatusForbidden}
		}
		return quaytest.Fault{}
	}})
	run := s.Start()
	defer run.Close()
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	for i, repo := range []string{"org/good", "org/bad", "org/gone", "org/fine"} {
		if repo != "org/gone" {
			if err := s.Push(t.Context(), repo, "v1", app(i)); err != nil {
				t.Fatal(err)
			}
		}
		src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: run.Host, Repository: repo, Tag: "v1"}, Bytes: -1})
	}
	dst := layout(t)
	all, opt, err := bulk.WithCompanions(src, dst, bulk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := bulk.Copy(t.Context(), all, dst, opt)
	if rep.Totals.Copied != 2 || rep.Totals.Failed != 2 || !errors.Is(err, oci.ErrDenied) {
		t.Errorf("got %+v, %v, want two of four copied", rep.Totals, err)
	}
	if got := rep.Images[1].Error; !strings.Contains(got, "look for companions of") {
		t.Errorf("the image says %q, want that its companions couldn't be found out", got)
	}
	if got := rep.Images[2].Error; strings.Contains(got, "companions") {
		t.Errorf("the image that isn't there says %q, want that alone", got)
	}
}

// What the listing has itself, in whatever order, comes once.
func TestCompanionsInTheListing(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	run := s.Start()
	defer run.Close()
	r := fill(t, s, "org/app", true)
	for _, tags := range [][]string{{"v1", tagOf(r.root, ".sig")}, {tagOf(r.root, ".sig"), "v1"}} {
		src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
		for _, tag := range tags {
			src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: run.Host, Repository: "org/app", Tag: tag}, Bytes: -1})
		}
		dst := layout(t)
		all, opt, err := bulk.WithCompanions(src, dst, bulk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		rep := mustCopy(t, all, dst, opt)
		for _, i := range rep.Images {
			got[i.Reference]++
		}
		if want := 1 + len(r.companions) - 1; len(got) != want || len(rep.Images) != want {
			t.Errorf("%d images of %d names, want %d: %q", len(rep.Images), len(got), want, slices.Sorted(maps.Keys(got)))
		}
	}
}

// A layout keeps companions by tag, and referrers by digest; from there they go to
// a registry as the images that they are.
func TestCompanionsThroughALayout(t *testing.T) {
	from, to := quaytest.New(quaytest.Options{}), quaytest.New(quaytest.Options{NoReferrers: true})
	fromRun, toRun := from.Start(), to.Start()
	defer fromRun.Close()
	defer toRun.Close()
	r := fill(t, from, "org/app", true)
	to.CreateUser("u", "p")
	to.CreateOrg("org", "u")
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	for _, tag := range []string{"v1", "v3"} {
		src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: fromRun.Host, Repository: "org/app", Tag: tag}, Bytes: -1})
	}
	path := t.TempDir()
	dst := openTarget(t, "ocidir://"+path, backend.Env{})
	all, opt, err := bulk.WithCompanions(src, dst, bulk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustCopy(t, all, dst, opt)

	u, err := backend.ParseURI("ocidir://" + path)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := ocidir.Kind.Source(t.Context(), u, backend.Env{})
	if err != nil {
		t.Fatal(err)
	}
	toEnv := sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(toRun.Host, "u", "p")})
	rep := mustCopy(t, kept, openTarget(t, "registry://"+toRun.Host, toEnv), bulk.Options{Name: bulk.Naming{Registry: toRun.Host}.Name})
	if want := 2 + len(r.companions); rep.Totals.Copied != want {
		t.Errorf("got %+v, want %d copied", rep.Totals, want)
	}
	if got := r.about(t, toRun.Host, "org/app", toEnv); !slices.Equal(got, r.companions) {
		t.Errorf("the registry has\n%q, want\n%q", got, r.companions)
	}
}

func TestCompanionsAreRefused(t *testing.T) {
	plain := layout(t)
	folder := openTarget(t, "dir://"+t.TempDir()+"/x", backend.Env{})
	changes, err := filter.ParseAll([]string{"normalize-timestamps"}, filter.Env{})
	if err != nil {
		t.Fatal(err)
	}
	spread := func(path string) oci.Target {
		t.Helper()
		u, err := backend.ParseURI("ocidir://" + t.TempDir() + path)
		if err != nil {
			t.Fatal(err)
		}
		target, err := ocidir.Kind.Spread(t.Context(), u, backend.Env{}, "")
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	tests := []struct {
		name string
		dst  oci.Target
		opt  bulk.Options
		want string // of the refusal; "" for none
	}{
		{"filters", plain, bulk.Options{Filters: changes}, "filters"},
		{"platforms", plain, bulk.Options{Platforms: []oci.Platform{imagetest.Linux}}, "platforms"},
		{"a folder", folder, bulk.Options{}, "images alone"},
		{"compression", openTarget(t, "ocidir://"+t.TempDir()+"?compression=zstd", backend.Env{}), bulk.Options{}, "compression"},
		{"one image", openTarget(t, "ocidir://"+t.TempDir()+":v1", backend.Env{}), bulk.Options{}, "one image"},
		{"a folder for each tag", spread("/{repo}/{tag}"), bulk.Options{}, "{tag}"},
		{"a folder for each repository", spread("/{repo}"), bulk.Options{}, ""},
		{"a layout", plain, bulk.Options{}, ""},
	}
	for _, tt := range tests {
		_, _, err := bulk.WithCompanions(&images{}, tt.dst, tt.opt)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v, want no refusal", tt.name, err)
		case tt.want != "" && (!errors.Is(err, oci.ErrUsage) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want an error matching ErrUsage that speaks of %s", tt.name, err, tt.want)
		}
	}
}
