package quay_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/quay"
)

func TestLabels(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if want := "/api/v1/repository/o/a/b/manifest/" + digest1 + "/labels"; r.URL.Path != want {
			t.Errorf("asked %s, want %s", r.URL.Path, want)
		}
		_, _ = io.WriteString(w, `{"labels":[{"id":"1","key":"k","value":"1","source_type":"manifest","media_type":"text/plain"},{"key":"k","value":"2","source_type":"api"}]}`)
	})
	got, err := c.Labels(t.Context(), "o/a/b", digest1)
	if want := "[{k 1 manifest} {k 2 api}]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestLabelsNotVisible(t *testing.T) {
	_, err := serve(t, reply(404, `{"detail":"Not Found","error_type":"not_found"}`)).Labels(t.Context(), "o/r", digest1)
	if !quay.NotVisible(err) || !errors.Is(err, oci.ErrNotFound) {
		t.Error(err)
	}
}

func TestChildren(t *testing.T) {
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 10))
	index := imagetest.Index(img)
	answer := toJSON(map[string]any{"digest": index.Desc.Digest, "is_manifest_list": true, "manifest_data": string(index.Raw), "layers": nil})
	got, err := serve(t, reply(200, answer)).Children(t.Context(), "o/r", index.Desc.Digest)
	if err != nil || len(got) != 1 || got[0].Digest != img.Desc.Digest {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := serve(t, reply(200, answer)).Children(t.Context(), "o/r", digest1); !errors.Is(err, oci.ErrDigestMismatch) {
		t.Errorf("another index: got %v", err)
	}
	plain := toJSON(map[string]any{"is_manifest_list": false, "manifest_data": string(img.Raw)})
	if got, err := serve(t, reply(200, plain)).Children(t.Context(), "o/r", img.Desc.Digest); err != nil || got != nil {
		t.Errorf("an image: got %v, %v", got, err)
	}
}
