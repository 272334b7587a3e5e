package dir_test

import (
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// What filters made of an image isn't what the image is.
func TestHeadGivesTheFiltersBack(t *testing.T) {
	path := t.TempDir() + "/x"
	target, name := open(t, "dir://"+path, nil), ref(t, "quay.io/kolla/api:1")
	img := imagetest.New(imagetest.Linux, nil, imagetest.Files(map[string]string{"a": "b"}))
	for _, filters := range []string{"", "chown/1:0", ""} {
		from := img.Desc
		if filters != "" {
			from.Annotations = map[string]string{oci.AnnotationFilters: filters, "other": "x"}
		}
		if err := put(t.Context(), target, name, img, from); err != nil {
			t.Fatal(err)
		}
		dst, err := target.Image(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dst.Head(t.Context(), "")
		if err != nil || got.Digest != img.Desc.Digest || got.Annotations[oci.AnnotationFilters] != filters || got.Annotations["other"] != "" {
			t.Errorf("got %+v, %v, want the filters %q and no other annotation", got, err, filters)
		}
		if in := strings.Contains(read(t, path, "manifest.json"), `"filters"`); in != (filters != "") {
			t.Errorf("with filters %q manifest.json has the key: %v", filters, in)
		}
	}
}
