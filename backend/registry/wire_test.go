package registry

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

func TestAddresses(t *testing.T) {
	tests := []struct{ name, ref, want string }{
		{"quay", "quay.io/kolla/nova:1", "https://quay.io/v2/kolla/nova/x"},
		{"docker.io, one part", "docker.io/alpine:1", "https://registry-1.docker.io/v2/library/alpine/x"},
		{"docker.io, two parts", "docker.io/bitnami/redis:1", "https://registry-1.docker.io/v2/bitnami/redis/x"},
		{"index.docker.io", "index.docker.io/alpine:1", "https://registry-1.docker.io/v2/library/alpine/x"},
		{"docker.io by its wire name", "registry-1.docker.io/alpine:1", "https://registry-1.docker.io/v2/library/alpine/x"},
		{"IPv6", "[::1]:5000/a:1", "https://[::1]:5000/v2/a/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ref, err := oci.ParseRef(tt.ref, "")
			if err != nil {
				t.Fatal(err)
			}
			r, err := newRepo(ref, backend.Env{})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.url("/x"); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestLocation(t *testing.T) {
	tests := []struct {
		name, from, location, want string
		err                        error
	}{
		{"absolute", "https://h.x/v2/a/blobs/uploads/", "https://h.x/u/1?s=2", "https://h.x/u/1?s=2", nil},
		{"relative", "https://h.x/v2/a/blobs/uploads/", "/u/1", "https://h.x/u/1", nil},
		{"relative to the path", "https://h.x/v2/a/blobs/uploads/", "1", "https://h.x/v2/a/blobs/uploads/1", nil},
		{"another host", "https://h.x/v2/", "https://s.y/u", "https://s.y/u", nil},
		{"from http to https", "http://h.x/v2/", "https://h.x/u", "https://h.x/u", nil},
		{"from https to http", "https://h.x/v2/", "http://h.x/u", "", oci.ErrRefused},
		{"none", "https://h.x/v2/", "", "", oci.ErrInvalid},
		{"another scheme", "https://h.x/v2/", "file:///etc/passwd", "", oci.ErrInvalid},
		{"with a login", "https://h.x/v2/", "https://u:p@h.x/", "", oci.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, err := url.Parse(tt.from)
			if err != nil {
				t.Fatal(err)
			}
			resp := &http.Response{Header: http.Header{}, Request: &http.Request{URL: from}}
			if tt.location != "" {
				resp.Header.Set("Location", tt.location)
			}
			at, err := location(resp)
			if !errors.Is(err, tt.err) || err == nil && at.String() != tt.want {
				t.Errorf("got %v, %v, want %s, %v", at, err, tt.want, tt.err)
			}
		})
	}
}
