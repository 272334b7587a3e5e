package pipeline_test

import (
	"context"
	"errors"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/pipeline"
)

func TestInspectReadsNoStream(t *testing.T) {
	img := twiceLayered()
	for kind, h := range map[string]how{"raw": {}, "compressed": {compressed: true}} {
		s := streamOf(t, img, h)
		item := oci.Item{Ref: oci.Ref{Registry: "localhost", Repository: "org/app", Tag: "v1"}, Bytes: -1}
		info, err := pipeline.Inspect(t.Context(), describer{s}, item, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := oci.Digest("")
		if h.compressed {
			want = img.Desc.Digest
		}
		if info.ManifestInfo != nil || info.Digest != want || info.OS != "linux" || len(info.TarLayers) != 4 || info.TarLayers[1].DiffID != s.diffIDs()[1] {
			t.Errorf("%s: got %+v, want what the config says", kind, info)
		}
		if s.begun.Load() != 0 {
			t.Errorf("%s: the image was streamed", kind)
		}
	}
}

// A nobody knows of no image.
type nobody struct{ *stream }

func (nobody) Describe(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, nil, oci.ErrNotFound
}

func TestDescribeErrorsAreThoseOfTheImage(t *testing.T) {
	s := streamOf(t, twiceLayered(), how{})
	target, host := newTarget(t, "ocidir")
	way := s.into(t, target, host, how{})
	way.Source = nobody{s}
	for _, dry := range []bool{false, true} {
		if r, err := pipeline.Copy(t.Context(), way, pipeline.Options{DryRun: dry}); !errors.Is(err, oci.ErrNotFound) || r.Status != oci.StatusFailed {
			t.Errorf("dry run %v: got %v, want that it isn't there", dry, err)
		}
	}
	if _, err := pipeline.Inspect(t.Context(), way.Source, way.Item, nil); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("got %v, want that it isn't there", err)
	}
}
