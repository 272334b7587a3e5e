package cli_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// servers are the Quays of a script, by the variables with their addresses.
type servers map[string]*far

// A far is one of them, with all that it was sent.
type far struct {
	*quaytest.Server
	run *quaytest.Run // once it was started

	mu   sync.Mutex
	came []sighting
	trap *trap

	broken outage
}

// A sighting is a request as the server saw it.
type sighting struct {
	area string // "api", "auth" (the token service), "v2" (the rest of the registry) or "storage" (the blobs' host)
	text string // line and headers, with Basic decoded
}

// A trap goes off with the first request of a kind under a path, before it is
// answered.
type trap struct {
	kind, path string
	do         func()
}

func newFar() *far {
	f := &far{}
	f.Server = quaytest.New(quaytest.Options{TagCache: -1, Fault: f.see})
	return f
}

// see notes r.
func (f *far) see(r *http.Request) quaytest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := sighting{area: "v2"}
	switch {
	case r.Host == f.run.StorageHost:
		s.area = "storage"
	case strings.HasPrefix(r.URL.Path, "/api/"):
		s.area = "api"
	case r.URL.Path == "/v2/auth":
		s.area = "auth"
	}
	var b strings.Builder
	b.WriteString(r.Method + " " + r.RequestURI + "\n")
	_ = r.Header.Write(&b) // a Builder takes everything
	if user, password, ok := r.BasicAuth(); ok {
		b.WriteString(user + ":" + password + "\n")
	}
	s.text = b.String()
	f.came = append(f.came, s)
	if t := f.trap; t != nil && quaytest.Kind(r) == t.kind && strings.HasPrefix(r.URL.Path, t.path) {
		f.trap = nil
		t.do()
	}
	return f.broken.breaking(quaytest.Kind(r), r.URL.Path)
}

// set sets a trap.
func (f *far) set(t trap) {
	f.mu.Lock()
	f.trap = &t
	f.mu.Unlock()
}

// reset forgets what came.
func (f *far) reset() {
	f.mu.Lock()
	f.came = nil
	f.mu.Unlock()
	f.Server.Reset()
}

// shown gives the areas that word came to, in whatever header or address.
func (f *far) shown(word string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var areas []string
	for _, s := range f.came {
		if contains(s.text, word) {
			areas = append(areas, s.area)
		}
	}
	slices.Sort(areas)
	return slices.Compact(areas)
}

// contains reports whether text shows word: as it is, escaped for a URL, or in
// base64 behind whatever else.
func contains(text, word string) bool {
	if strings.Contains(text, word) || strings.Contains(text, url.QueryEscape(word)) {
		return true
	}
	for shift := range 3 {
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + word))
		// The first and last digit also depend on the neighbours.
		if strings.Contains(text, enc[(shift*8+5)/6:(shift+len(word))*8/6]) {
			return true
		}
	}
	return false
}

// when is when the tags of the fixture were set.
var when = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// textImage is an image that holds text.
func textImage(text string) imagetest.Image {
	return imagetest.New(imagetest.Linux, nil, imagetest.Files(map[string]string{"app": text}))
}

// golden is an image that is the same whatever compresses: its layers are of
// each type, and hold anything.
func golden(p oci.Platform) imagetest.Image {
	var layers []imagetest.Layer
	for _, compression := range []string{"+gzip", "+zstd", ""} {
		layers = append(layers, imagetest.Blob("application/vnd.oci.image.layer.v1.tar"+compression, []byte("layer"+compression+strings.Repeat(".", 1500))))
	}
	return imagetest.New(p, map[string]string{"name": "golden", "b": "<&>"}, layers...)
}

// fill makes the organisation kolla: nova-api and nova-compute share a base and
// have two tags; glance is for two platforms, under two tags; old was set in 2024; the
// organisation golden; and the organisation secret, which is private.
func fill(s *quaytest.Server) error {
	base := imagetest.Files(map[string]string{"etc/os-release": "ID=test\n", "bin/true": strings.Repeat("true\n", 1000)})
	arm := oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	top := func(name string) imagetest.Layer { return imagetest.Files(map[string]string{"app": name}) }
	glance := imagetest.Index(imagetest.New(imagetest.Linux, nil, base, top("glance")), imagetest.New(arm, nil, base, top("glance-arm")))
	images := []struct {
		repo, tag string
		set       time.Time
		img       imagetest.Image
	}{
		{"kolla/nova-api", "2025.1", when, imagetest.New(imagetest.Linux, map[string]string{"name": "nova-api"}, base, top("api1"))},
		{"kolla/nova-api", "2025.2", when.AddDate(0, 1, 0), imagetest.New(imagetest.Linux, map[string]string{"name": "nova-api"}, base, top("api2"))},
		{"kolla/nova-compute", "2025.1", when, imagetest.New(imagetest.Linux, nil, base, top("compute"))},
		{"kolla/team/glance", "2025.1", when, glance},
		{"kolla/team/glance", "2024.2", when.AddDate(-1, 0, 0), glance},
		{"golden/app", "1", when, golden(imagetest.Linux)},
		{"golden/index", "1", when, imagetest.Index(golden(imagetest.Linux), golden(arm))},
		{"kolla/old", "2025.1", when.AddDate(-2, 0, 0), imagetest.New(imagetest.Linux, nil, top("old"))},
	}
	ctx := context.Background()
	for _, i := range images {
		if err := s.Push(ctx, i.repo, "", i.img); err != nil {
			return err
		}
		if err := s.SetTag(i.repo, i.tag, i.img.Desc.Digest, i.set, time.Time{}); err != nil {
			return err
		}
	}
	if err := fillTrees(ctx, s); err != nil {
		return err
	}
	s.CreateOrg("secret", "alice")
	if err := s.CreateRepository("secret", "app", false); err != nil {
		return err
	}
	return s.Push(ctx, "secret/app", "2025.1", imagetest.New(imagetest.Linux, nil, top("secret")))
}
