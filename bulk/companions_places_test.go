package bulk_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// Two tags of one image go to two repositories: each gets what is about it.
func TestCompanionsOfOneImageInTwoPlaces(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	run := s.Start()
	defer run.Close()
	r := fill(t, s, "org/app", true)
	s.CreateUser("u", "p")
	s.CreateOrg("mirror", "u")
	env := sideEnv(t, transport.Options{Side: "destination", Credentials: transport.Fixed(run.Host, "u", "p")})
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	for _, tag := range []string{"v1", "v2"} {
		src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: run.Host, Repository: "org/app", Tag: tag}, Bytes: -1})
	}
	dst := openTarget(t, "registry://"+run.Host, env)
	all, opt, err := bulk.WithCompanions(src, dst, bulk.Options{Name: func(item oci.Item) (oci.Ref, error) {
		return oci.Ref{Registry: run.Host, Repository: "mirror/" + item.Ref.Tag, Tag: "latest"}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	mustCopy(t, all, dst, opt)
	want := len(r.companions) - 1 // but for that of v3
	for _, tag := range []string{"v1", "v2"} {
		if got := r.about(t, run.Host, "mirror/"+tag, env); len(got) != want {
			t.Errorf("mirror/%s has %d companions, want %d: %q", tag, len(got), want, got)
		}
	}
}

// Nested indexes that name more than is ever copied: nothing is asked about all that.
func TestCompanionsOfFarTooMany(t *testing.T) {
	s := quaytest.New(quaytest.Options{})
	run := s.Start()
	defer run.Close()
	list := func(from, n int, children ...imagetest.Image) imagetest.Image {
		var entries []string
		for _, c := range children {
			entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, c.Desc.MediaType, c.Desc.Digest, c.Desc.Size))
		}
		for i := range n {
			entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":"sha256:%064x","size":1}`, oci.MediaTypeManifest, from+i))
		}
		img := imagetest.Image{Children: children, Blobs: map[oci.Digest][]byte{}}
		img.Raw = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeIndex, strings.Join(entries, ","))
		img.Desc = imagetest.Blob(oci.MediaTypeIndex, img.Raw).Desc
		return img
	}
	if err := s.Push(t.Context(), "org/app", "v1", list(0, 0, list(0, 6000), list(6000, 6000))); err != nil {
		t.Fatal(err)
	}
	src := quayImages{&images{}, sideEnv(t, transport.Options{Side: "source"})}
	src.items = append(src.items, oci.Item{Ref: oci.Ref{Registry: run.Host, Repository: "org/app", Tag: "v1"}, Bytes: -1})
	dst := layout(t)
	all, opt, err := bulk.WithCompanions(src, dst, bulk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Reset()
	rep, _ := bulk.Copy(t.Context(), all, dst, opt)
	if n := s.Counts(); rep.Totals.Failed != 1 || n["v2.referrers"] != 0 || n["v2.tags"] != 0 {
		t.Errorf("%+v, after %v, want that the image failed, and no question about what it names", rep.Totals, n)
	}
}
