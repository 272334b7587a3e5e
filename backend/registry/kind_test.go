package registry_test

import (
	"errors"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/backend/registry"
	"github.com/quaymaster/quaymaster/oci"
)

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestSourceURI(t *testing.T) {
	tests := []struct {
		name, uri string
		want      oci.Ref // zero: a usage error
		digest    oci.Digest
	}{
		{"tag", "registry://quay.io/kolla/nova:1", oci.Ref{Registry: "quay.io", Repository: "kolla/nova", Tag: "1"}, ""},
		{"default tag", "registry://quay.io/kolla/nova", oci.Ref{Registry: "quay.io", Repository: "kolla/nova", Tag: "latest"}, ""},
		{"digest", "registry://quay.io/a@sha256:" + hex64, oci.Ref{Registry: "quay.io", Repository: "a"}, "sha256:" + hex64},
		{"tag and digest", "registry://quay.io/a:1@sha256:" + hex64, oci.Ref{Registry: "quay.io", Repository: "a", Tag: "1"}, "sha256:" + hex64},
		{"port", "registry://h:5000/a:1", oci.Ref{Registry: "h:5000", Repository: "a", Tag: "1"}, ""},
		{"host without a dot", "registry://mirror/a/b:1", oci.Ref{Registry: "mirror", Repository: "a/b", Tag: "1"}, ""},
		{"repository that looks like a host", "registry://quay.io/foo.bar/x:1", oci.Ref{Registry: "quay.io", Repository: "foo.bar/x", Tag: "1"}, ""},
		{"credentials", "registry://u:p@quay.io/a:1", oci.Ref{Registry: "quay.io", Repository: "a", Tag: "1"}, ""},
		{"no repository", "registry://quay.io", oci.Ref{}, ""},
		{"no host", "registry://", oci.Ref{}, ""},
		{"malformed digest", "registry://quay.io/a@sha256:abc", oci.Ref{}, ""},
		{"upper case", "registry://quay.io/A:1", oci.Ref{}, ""},
		{"a path that climbs", "registry://quay.io/../a:1", oci.Ref{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := backend.ParseURI(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			images, err := registry.Kind.Source(t.Context(), u, backend.Env{})
			if tt.want == (oci.Ref{}) {
				if !errors.Is(err, oci.ErrUsage) {
					t.Fatalf("got %v, want a usage error", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for item, err := range images.Discover(t.Context()) {
				if err != nil || item.Ref != tt.want || item.Desc.Digest != tt.digest {
					t.Errorf("got %+v %s, %v, want %+v %s", item.Ref, item.Desc.Digest, err, tt.want, tt.digest)
				}
			}
			if images.Bulk() {
				t.Error("one image is no bulk")
			}
		})
	}
}

func TestTargetURI(t *testing.T) {
	token := backend.Env{APIToken: "t"}
	tests := []struct {
		name, uri string
		env       backend.Env
		want      error
	}{
		{"one image", "registry://h.x/a:1", backend.Env{}, nil},
		{"many", "registry://h.x", backend.Env{}, nil},
		{"many below a prefix", "registry://h.x/mirror/quay", backend.Env{}, nil},
		{"digest", "registry://h.x/a@sha256:" + hex64, backend.Env{}, oci.ErrUsage},
		{"tag and digest", "registry://h.x/a:1@sha256:" + hex64, backend.Env{}, oci.ErrUsage},
		{"visibility", "registry://h.x/a:1", backend.Env{APIToken: "t", Visibility: "public"}, nil},
		{"visibility without a token", "registry://h.x/a:1", backend.Env{Visibility: "public"}, oci.ErrUsage},
		{"visibility that isn't one", "registry://h.x/a:1", backend.Env{APIToken: "t", Visibility: "open"}, oci.ErrUsage},
		{"malformed prefix", "registry://h.x/a//b", token, oci.ErrUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, err := backend.ParseURI(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := registry.Kind.Target(t.Context(), u, tt.env); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestImageOfAnotherHost(t *testing.T) {
	f := newFar(t)
	_, err := f.target(t, f.env()).Image(t.Context(), oci.Ref{Registry: "elsewhere.x", Repository: "a", Tag: "1"})
	if !errors.Is(err, oci.ErrUsage) {
		t.Errorf("got %v, want a usage error", err)
	}
}
