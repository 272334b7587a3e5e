package discover_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// cached gives a Quay with one image and one signature, and an environment
// with a cache; warnings go to warned.
func cached(t *testing.T) (s *quaytest.Server, e backend.Env, warned *[]string) {
	t.Helper()
	s = quaytest.New(quaytest.Options{})
	fill(t, s, "o/a", tag("v1", 1, day(1)), tag("sha256-"+image(1).Desc.Digest.Encoded()+".sig", 2, day(2)))
	e = env(start(t, s).Host)
	e.CacheDir = filepath.Join(t.TempDir(), "cache")
	warned = new([]string)
	e.Warn = func(line string) { *warned = append(*warned, line) }
	return s, e, warned
}

// list runs uri and gives the listing and how many requests it took.
func list(t *testing.T, s *quaytest.Server, uri string, e backend.Env) (items []oci.Item, l oci.Listing, requests int) {
	t.Helper()
	s.Reset()
	images := mustOpen(t, uri, e)
	for item, err := range images.Discover(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	for _, n := range s.Counts() {
		requests += n
	}
	return items, listing(images), requests
}

func cacheFiles(t *testing.T, e backend.Env) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.CacheDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestCacheHit(t *testing.T) {
	s, e, warned := cached(t)
	first, l1, n := list(t, s, "quay://o/*:v*", e)
	if n == 0 || len(first) != 1 {
		t.Fatalf("%d requests, %v", n, first)
	}
	if err := s.MoveTag("o/a", "v1", image(2).Desc.Digest); err != nil {
		t.Fatal(err)
	}
	second, l2, n := list(t, s, "quay://o/*:v*", e)
	if n != 0 || fmt.Sprintf("%+v", first) != fmt.Sprintf("%+v", second) || fmt.Sprintf("%+v", l1) != fmt.Sprintf("%+v", l2) {
		t.Errorf("%d requests\ngot  %+v %+v\nwant %+v %+v", n, second, l2, first, l1)
	}
	if l2.Companions != 1 || len(*warned) > 0 {
		t.Errorf("listing %+v, warned %q", l2, *warned)
	}
}

// All that makes a difference to the answer is in the key.
func TestCacheMiss(t *testing.T) {
	s, e, _ := cached(t)
	s.CreateUser("alice", "")
	token := s.AddToken("alice", "repo:read")
	list(t, s, "quay://o/*:v*", e)
	for _, uri := range []string{"quay://o/*:v1", "quay://o/a:v*", "quay://o/*:v*?since=2025-01-01", "quay://o/*:v*?exclude=b", "quay://o/*:v*?latest=1",
		"quay://o/*:v*?label=seed", "quay://o/*:v*?token=" + token, "quay://o/*:v*?companions=true"} {
		if _, _, n := list(t, s, uri, e); n == 0 {
			t.Errorf("%s: answered from another's listing", uri)
		}
		if _, _, n := list(t, s, uri, e); n != 0 {
			t.Errorf("%s: not kept", uri)
		}
	}
	for _, file := range cacheFiles(t, e) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw)+file, token) {
			t.Errorf("%s holds the token", file)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

// age sets when the one kept listing was made.
func age(t *testing.T, e backend.Env, made time.Time) {
	t.Helper()
	file := cacheFiles(t, e)[0]
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var k map[string]any
	if err := json.Unmarshal(raw, &k); err != nil {
		t.Fatal(err)
	}
	k["made"] = made
	if raw, err = json.Marshal(k); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCacheAge(t *testing.T) {
	s, e, warned := cached(t)
	for ago, hit := range map[time.Duration]bool{59 * time.Minute: true, 61 * time.Minute: false, -time.Hour: false} {
		list(t, s, "quay://o/*:v*", e)
		age(t, e, time.Now().Add(-ago))
		if _, _, n := list(t, s, "quay://o/*:v*", e); (n == 0) != hit {
			t.Errorf("%v ago: %d requests", ago, n)
		}
	}
	if len(*warned) > 0 {
		t.Errorf("warned %q", *warned)
	}
}

func TestCacheCorrupt(t *testing.T) {
	s, e, warned := cached(t)
	list(t, s, "quay://o/*:v*", e)
	file := cacheFiles(t, e)[0]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Format(time.RFC3339)
	for name, bad := range map[string]string{
		"empty":            "",
		"null":             "null",
		"cut":              string(good[:len(good)/2]),
		"another host":     strings.ReplaceAll(string(good), e.QuayHost, "evil.example"),
		"another org":      strings.ReplaceAll(string(good), `"o/a"`, `"p/a"`),
		"traversal":        strings.ReplaceAll(string(good), `"o/a"`, `"o/../a"`),
		"no digest":        strings.ReplaceAll(string(good), "sha256:", "sha256."),
		"not all":          `{"made":"` + now + `","listing":{"found":2,"complete":true},"items":[]}`,
		"of a broken pass": `{"made":"` + now + `","listing":{"found":0,"complete":false},"items":[]}`,
	} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		*warned = nil
		items, _, n := list(t, s, "quay://o/*:v*", e)
		if n == 0 || len(items) != 1 || len(*warned) != 1 || !strings.Contains((*warned)[0], file) {
			t.Errorf("%s: %d requests, %d items, warned %q", name, n, len(items), *warned)
		}
		if _, _, n := list(t, s, "quay://o/*:v*", e); n != 0 {
			t.Errorf("%s: not mended", name)
		}
	}
}

func TestCacheKeepsNoneThatIsEmptyOrBroken(t *testing.T) {
	s, e, _ := cached(t)
	list(t, s, "quay://o/*:none", e)
	for range mustOpen(t, "quay://o/*:v*", e).Discover(t.Context()) {
		break
	}
	if files := cacheFiles(t, e); len(files) != 0 {
		t.Errorf("kept %v", files)
	}
}

// A cache that can't be written costs a warning, and no more.
func TestCacheThatCantBeWritten(t *testing.T) {
	s, e, warned := cached(t)
	e.CacheDir = filepath.Join(write(t, "a file"), "sub")
	if items, _, _ := list(t, s, "quay://o/*:v*", e); len(items) != 1 || len(*warned) == 0 {
		t.Errorf("%d items, warned %q", len(items), *warned)
	}
}
