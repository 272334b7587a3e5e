package bulk

import (
	"context"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// A plain source, which the others are too.
type plainSource struct{ oci.Source }

type describing struct{ oci.Source }

func (describing) Describe(context.Context, string) (oci.Descriptor, []byte, error) {
	return oci.Descriptor{}, []byte("{}"), nil
}

type streaming struct{ oci.Source }

func (streaming) Stream(context.Context, string) iter.Seq2[oci.Blob, error] {
	return func(yield func(oci.Blob, error) bool) {
		for _, body := range []string{"one", "passed over", "three"} {
			b := oci.Blob{Desc: oci.Descriptor{Size: int64(len(body))}, Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(body)), nil
			}}
			if !yield(b, nil) {
				return
			}
		}
	}
}

type daemon struct {
	streaming
	describing
	oci.Source
}

func TestCountedSourcesCanWhatTheyCould(t *testing.T) {
	tests := []struct {
		name               string
		src                oci.Source
		streams, describes bool
	}{
		{"plain", plainSource{}, false, false},
		{"describer", describing{}, false, true},
		{"streamer", streaming{}, true, false},
		{"both", daemon{}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var count transfers
			src := countSource(tt.src, counted{blobs: &count.fetched, bytes: func(n int64) { count.fetchedBytes.Add(n) }})
			if _, ok := src.(oci.Describer); ok != tt.describes {
				t.Errorf("it describes: %v", ok)
			}
			s, ok := src.(oci.Streamer)
			if ok != tt.streams {
				t.Errorf("it streams: %v", ok)
			}
			if !ok {
				return
			}
			for b, err := range s.Stream(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				if b.Desc.Size == 11 {
					continue
				}
				rc, err := b.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(rc); err != nil {
					t.Error(err)
				}
				if err := rc.Close(); err != nil {
					t.Error(err)
				}
			}
			if count.fetched.Load() != 2 || count.fetchedBytes.Load() != 8 {
				t.Errorf("counted %d blobs, %d bytes, want 2 of 8", count.fetched.Load(), count.fetchedBytes.Load())
			}
		})
	}
}
