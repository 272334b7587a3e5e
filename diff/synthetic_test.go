package diff_test

import (
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/diff"
	"github.com/quaymaster/quaymaster/internal/imagetest"
)

// An image of a place without manifests is equal to one with its config, whatever
// the layers are compressed with, and nobody is told its made-up digest.
func TestImagesWithoutManifests(t *testing.T) {
	base, top := imagetest.Random(1, 2000), imagetest.Files(map[string]string{"etc/app": "old"})
	img := imagetest.New(imagetest.Linux, map[string]string{"a": "b"}, base, top)
	other := imagetest.New(imagetest.Linux, map[string]string{"a": "b"}, base, imagetest.Files(map[string]string{"etc/app": "new!"}))
	plain, changed := imagetest.NewPlain(t.TempDir()), imagetest.NewPlain(t.TempDir())
	plain.Add("org/app", "v1", img)
	changed.Add("org/app", "v1", other)
	alone := imagetest.NewPlain(t.TempDir())
	alone.Add("org/other", "v1", img)
	alone.Add("org/other", "v2", img) // or it would be paired by repository
	near := images{newPlace(t).add(t, "org/app", "v1", img)}
	blind := images{newPlace(t).add(t, "org/app", "v1", img)}
	blind.blind = true

	tests := []struct {
		name    string
		a, b    backend.Images
		want    diff.Status
		read    int
		digests [2]bool
	}{
		{"a registry's copy", plain, near, "", 0, [2]bool{}},
		{"and the other way round", near, plain, "", 0, [2]bool{}},
		{"listed without digests", blind, plain, "", 0, [2]bool{}},
		{"itself", plain, plain, "", 0, [2]bool{}},
		{"another", plain, changed, diff.Changed, 2, [2]bool{}},
		{"another than a registry's", near, changed, diff.Changed, 2, [2]bool{true, false}},
		{"none", plain, alone, diff.Removed, 0, [2]bool{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var sum diff.Summary
			var got []diff.Image
			for i, err := range diff.Images(t.Context(), diff.Place{Images: tt.a}, diff.Place{Images: tt.b}, diff.Options{}, &sum) {
				if err != nil {
					t.Fatal(err)
				}
				if i.Image == "org/app:v1" {
					got = append(got, i)
				}
			}
			if tt.want == "" {
				if len(got) != 0 || sum.Equal != 1 || sum.Layers != 0 {
					t.Errorf("%+v, %+v: want them equal, and no layer read", got, sum)
				}
				return
			}
			if len(got) != 1 || got[0].Status != tt.want || sum.Layers != tt.read {
				t.Fatalf("%+v, %+v: want %s", got, sum, tt.want)
			}
			for i, s := range []*diff.Side{got[0].A, got[0].B} {
				if s != nil && (s.Digest != "") != tt.digests[i] {
					t.Errorf("side %d has digest %q", i, s.Digest)
				}
			}
			for _, c := range got[0].Platforms {
				if (c.A != "") != tt.digests[0] || c.B != "" || len(c.Layers) != 2 || len(c.Files) != 1 || len(c.Labels)+len(c.Config) != 0 {
					t.Errorf("%+v: want one layer for another, and one file", c)
				}
			}
		})
	}
}
