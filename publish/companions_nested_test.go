package publish_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// ofArch gives an image of linux/arch.
func ofArch(seed uint64, arch string) imagetest.Image {
	return imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, nil, imagetest.Random(seed, 1000))
}

// nesting gives a list of lists and images that doesn't say what they are.
func nesting(t *testing.T, children ...imagetest.Image) imagetest.Image {
	t.Helper()
	list := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	list.SchemaVersion = 2
	for _, c := range children {
		list.Manifests = append(list.Manifests, c.Desc)
	}
	raw, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return imagetest.Image{Desc: imagetest.Blob(list.MediaType, raw).Desc, Raw: raw, Children: children}
}

// A list holds a list, which holds an image; the inner list and its image are signed.
// Whatever brings them brings the signatures, and reads the inner list once.
func TestCompanionsOfNestedLists(t *testing.T) {
	source := func(v *voyage) oci.Ref { return oci.Ref{Registry: v.source, Repository: "org/src", Tag: "v1"} }
	dests := func(v *voyage, repos ...string) (out []oci.Ref) {
		for _, r := range repos {
			out = append(out, oci.Ref{Registry: v.dest, Repository: r, Tag: "v1"})
		}
		return out
	}
	push := func(v *voyage, tags string) error {
		plan, err := publish.ParsePlan("plan.yaml", []byte("- pull_url: org/src:v1\n  kind: multiarch\n  tags:\n"+tags), publish.PlanOptions{
			Registry: v.dest, Namespace: "org", SourceRegistry: v.source, Names: publish.NamesFlatten,
		})
		if err == nil {
			_, err = v.publisher().Push(t.Context(), plan, publish.PushOptions{})
		}
		return err
	}
	merge := func(v *voyage) error {
		_, err := v.publisher().Merge(t.Context(), source(v), dests(v, "org/app")[0], publish.MergeOptions{})
		return err
	}
	tests := []struct {
		name string
		old  bool // the destination has a list with another platform
		do   func(v *voyage) error
	}{
		{"tag", false, func(v *voyage) error {
			_, err := v.publisher().Tag(t.Context(), source(v), dests(v, "org/app", "org/two", "org/three"), publish.TagOptions{})
			return err
		}},
		{"push", false, func(v *voyage) error { return push(v, "    app: [v1]\n    two: [v1]\n") }},
		{"push that merges", true, func(v *voyage) error { return push(v, "    app: [v1]\n") }},
		{"merge into nothing", false, merge},
		{"merge", true, merge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			leaf := ofArch(1, "amd64")
			inner := imagetest.Index(leaf)
			var reads atomic.Int64
			v := newVoyage(t, quaytest.Options{Fault: func(r *http.Request) quaytest.Fault {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, string(inner.Desc.Digest)) && strings.Contains(r.URL.Path, "/manifests/") {
					reads.Add(1)
				}
				return quaytest.Fault{}
			}}, quaytest.Options{})
			v.push(v.from, "org/src", "v1", nesting(t, inner, ofArch(2, "arm64")))
			for i, img := range []imagetest.Image{inner, leaf} {
				v.push(v.from, "org/src", cosignTag(img, ".sig"), v.signedBy(nil, fmt.Sprint(i)))
			}
			if tt.old {
				v.push(v.to, "org/app", "v1", imagetest.Index(ofArch(3, "s390x")))
			}
			if err := tt.do(v); err != nil {
				t.Fatal(err)
			}
			for name, img := range map[string]imagetest.Image{"the inner list": inner, "its image": leaf} {
				if v.means(cosignTag(img, ".sig")) == "" {
					t.Errorf("the signature of %s didn't come along", name)
				}
			}
			if n := reads.Load(); n != 1 {
				t.Errorf("the inner list was read %d times, want once", n)
			}
		})
	}
}

// Lists are nested as deep as they are copied.
func TestCompanionsOfDeepLists(t *testing.T) {
	v := newVoyage(t, quaytest.Options{}, quaytest.Options{})
	img := ofArch(1, "amd64")
	deep := []imagetest.Image{img}
	for range 4 {
		deep = append(deep, nesting(t, deep[len(deep)-1]))
	}
	v.push(v.from, "org/src", "v1", deep[4])
	v.push(v.from, "org/src", cosignTag(img, ".sig"), v.signedBy(nil, "a"))
	report, err := v.tag(v.publisher(), "v1")
	if err != nil || !slices.Equal(told(report), []string{"signature pushed"}) {
		t.Errorf("four lists in each other: %v, %q", err, told(report))
	}
}
