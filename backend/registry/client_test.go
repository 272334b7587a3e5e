package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/internal/transport"
	"github.com/quaymaster/quaymaster/oci"
)

// A reading is what a registry answers to a read of a manifest, and what comes of it.
type reading struct {
	name   string
	status int // 0 is 200
	mt     string
	header string // Docker-Content-Digest
	body   string
	ref    string     // "" is v1
	want   oci.Digest // of the body
	kind   error      // nil: none
}

func readAll(t *testing.T, tests []reading) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFar(t)
			f.fail(func(w http.ResponseWriter, _ *http.Request) bool {
				if tt.status != 0 {
					return answer(w, tt.status, "OF_THE_TEST")
				}
				w.Header().Set("Content-Type", tt.mt)
				if tt.header != "" {
					w.Header().Set("Docker-Content-Digest", tt.header)
				}
				_, _ = w.Write([]byte(tt.body))
				return true
			})
			d, raw, err := f.source(t, "a", "v1").Resolve(t.Context(), tt.ref)
			switch {
			case tt.kind != nil:
				if !errors.Is(err, tt.kind) {
					t.Errorf("got %v, want %v", err, tt.kind)
				}
			case err != nil || d.Digest != tt.want || !bytes.Equal(raw, []byte(tt.body)):
				t.Errorf("got %s, %q, %v; want %s", d.Digest, raw, err, tt.want)
			}
			// A mismatch is read again, in case it was an accident.
			if n := len(f.log()); n != 1 && !errors.Is(err, oci.ErrDigestMismatch) {
				t.Errorf("%d requests", n)
			}
		})
	}
}

const (
	// Its own spacing, and a letter of two bytes.
	oneManifest = `{ "schemaVersion":2,  "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + hex64 + `","size":2}, "layers":[], "annotations":{"by":"é"} }`
	oneIndex    = `{"schemaVersion":2, "manifests":[]}`
)

// Ours asks for all types in one request and takes what comes for what it says
// that it is, if it is that.
func TestClientTypes(t *testing.T) {
	own := digest.FromString(oneManifest)
	readAll(t, []reading{
		{name: "A41 the type that it is", mt: oci.MediaTypeManifest, body: oneManifest, want: own},
		{name: "A41 with a parameter", mt: oci.MediaTypeManifest + "; charset=utf-8", body: oneManifest, want: own},
		{name: "A41 another type than its own says", mt: "application/json", body: strings.Replace(oneIndex, "2,", `2,"mediaType":"`+oci.MediaTypeManifest+`",`, 1), kind: oci.ErrInvalid},
		{name: "A42 an image, whatever else was asked for", mt: oci.MediaTypeDockerManifest, body: oneManifest, want: own},
		{name: "A42 a type that nobody knows", mt: "application/vnd.example.thing", body: oneManifest, kind: oci.ErrInvalid},
		{name: "A42 a type that nobody knows, in the manifest too", mt: "application/vnd.example.thing", body: strings.Replace(oneManifest, "2,", `2,"mediaType":"application/vnd.example.thing",`, 1), kind: oci.ErrInvalid},
		{name: "A42 text, as of a CDN for schema 1", mt: "text/plain", body: `{"schemaVersion":1,"fsLayers":[]}`, kind: oci.ErrInvalid},
	})
}

func TestClientDigests(t *testing.T) {
	// The bytes count, whatever is in them.
	const vector = `{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": 429, "digest": "sha256:6d5f4d65fg4d6f54g", "platform": {"architecture": "arm64", "os": "linux"}}`
	const known = "sha256:b9742c91f353022604e8ed4cf4ab1d688114fc4b133f0e11cbf7dd6272753ac8"
	latin := strings.Replace(oneManifest, "é", "\xe9", 1) // no UTF-8
	readAll(t, []reading{
		{name: "A43 the vector", mt: oci.MediaTypeDockerManifest, body: vector, want: known},
		{name: "A43 asked for by it", ref: known, mt: oci.MediaTypeDockerManifest, body: vector, want: known},
		{name: "A43 not ASCII", mt: oci.MediaTypeManifest, header: string(digest.FromString(oneManifest)), body: oneManifest, want: digest.FromString(oneManifest)},
		{name: "A43 not even UTF-8", mt: oci.MediaTypeManifest, header: string(digest.FromString(latin)), body: latin, want: digest.FromString(latin)},
		{name: "A43 by sha512", ref: string(digest.SHA512.FromString(oneManifest)), mt: oci.MediaTypeManifest, body: oneManifest, want: digest.SHA512.FromString(oneManifest)},
		{name: "A43 the header says another", mt: oci.MediaTypeManifest, header: known, body: oneManifest, kind: oci.ErrDigestMismatch},
		{name: "A43 404", status: 404, kind: oci.ErrNotFound},
	})
	t.Run("A43 500 is another error", func(t *testing.T) {
		f := newFar(t)
		f.fail(func(w http.ResponseWriter, _ *http.Request) bool { return answer(w, 500, "UNKNOWN") })
		_, _, err := f.source(t, "a", "v1").Resolve(t.Context(), "")
		e, ok := errors.AsType[*transport.StatusError](err)
		if !ok || e.Status != 500 || errors.Is(err, oci.ErrNotFound) || errors.Is(err, oci.ErrDenied) || !strings.Contains(fmt.Sprint(err), "a:v1") {
			t.Errorf("got %v", err)
		}
	})
}
