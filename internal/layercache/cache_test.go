package layercache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/oci"
)

func d(s string) oci.Digest { return digest.FromString(s) }

func open(t *testing.T, path string) *Cache {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func save(t *testing.T, c *Cache) {
	t.Helper()
	if err := c.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func entry(of string) Entry {
	return Entry{
		Desc:   oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: d("made of " + of), Size: 7},
		DiffID: d("tar of " + of), At: "host/repo", Specs: []string{"normalize-timestamps"}, Codec: "gzip",
	}
}

func TestHash(t *testing.T) {
	tests := []struct {
		specs []string
		codec string
		want  string
	}{
		{nil, "gzip", "none"},
		{[]string{"normalize-timestamps"}, "gzip", "49e3288122916ff7"},
		{nil, "zstd", "063b57bd57f6572a"},
		// json.dumps({"compression":"gzip","filters":["exclude:pattern=<ä\u2028\U0001F40B>"]}, sort_keys=True, separators=(",", ":"))
		{[]string{"exclude:pattern=<ä\u2028\U0001F40B>"}, "gzip", "8781b4de094ccd3f"},
	}
	for _, tt := range tests {
		if got := Hash(tt.specs, tt.codec); got != tt.want {
			t.Errorf("%q, %s: got %s, want %s", tt.specs, tt.codec, got, tt.want)
		}
	}
}

func TestEntriesStayApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.json")
	c := open(t, path)
	layer := d("layer")
	for _, how := range []string{"a", "b"} {
		c.Put(layer, how, entry(how))
	}
	save(t, c)
	c = open(t, path)
	for _, how := range []string{"a", "b"} {
		got, ok := c.Get(layer, how)
		if want := entry(how); !ok || got.Desc.Digest != want.Desc.Digest || got.DiffID != want.DiffID || got.At != want.At || got.Desc.Size != 7 {
			t.Errorf("%s: got %+v, %v", how, got, ok)
		}
	}
	if _, ok := c.Get(layer, "c"); ok {
		t.Error("what nobody made is there")
	}
	if _, ok := c.Get(d("other"), "a"); ok {
		t.Error("another layer's is there")
	}
}

// What occystrap wrote says no diffID, so it is nothing to go by; it stays.
func TestOccystrapsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.json")
	old := `{"version": 1, "more": [1], "layers": {"` + d("theirs").Encoded() + `": {"compressed_digest": "` + string(d("x")) +
		`", "compressed_size": 123, "media_type": "application/vnd.docker.image.rootfs.diff.tar.gzip", "filters_hash": "49e3288122916ff7", "timestamp": "2026-02-09T12:34:56.789012+00:00"}}}`
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	if e, ok := c.Get(d("theirs"), "a"); ok {
		t.Errorf("got %+v, want nothing", e)
	}
	c.now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC) }
	c.Put(d("ours"), "a", entry("ours"))
	c.Put(d("plain"), "a", Entry{Desc: oci.Descriptor{Digest: d("p"), Size: 1}, DiffID: d("p"), Codec: "none", Specs: []string{"x"}})
	save(t, c)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Version int
		More    []int
		Layers  map[string]map[string]any
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Version != 1 || len(f.More) != 1 || len(f.Layers) != 2 {
		t.Fatalf("got %s, %v, want what was there and one layer more", raw, err)
	}
	if f.Layers[d("theirs").Encoded()]["compressed_size"] != 123.0 {
		t.Errorf("got %s, want their entry as it was", raw)
	}
	got := f.Layers[d("ours").Encoded()]
	for key, want := range map[string]any{
		"compressed_digest": string(d("made of ours")), "compressed_size": 7.0, "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
		"filters_hash": "49e3288122916ff7", "timestamp": "2026-03-04T05:06:07.000008+00:00",
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
	}
	if !strings.HasPrefix(string(raw), "{\n  \"layers\": {\n    \"") {
		t.Errorf("got %s, want an indent of two", raw)
	}

	// occystrap writes version and layers alone.
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(map[string]json.RawMessage{"version": all["version"], "layers": all["layers"]}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, path)
	if e, ok := c.Get(d("ours"), "a"); !ok || e.DiffID != d("tar of ours") {
		t.Errorf("got %+v, %v, want ours, which occystrap has kept", e, ok)
	}
	if e, ok := c.Get(d("ours"), "b"); ok {
		t.Errorf("got %+v for other filters", e)
	}
}

func TestWhatIsNoCacheStays(t *testing.T) {
	for name, raw := range map[string]string{
		"another version": `{"version":2,"layers":{}}`, "no version": `{"layers":{}}`, "no layers": `{"version":1}`,
		"cut off": `{"version":1,`, "not an object": `[]`, "null": `null`, "text": `hello`,
	} {
		path := filepath.Join(t.TempDir(), "cache.json")
		if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, oci.ErrInvalid) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "cache.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestDamagedEntriesAreNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.json")
	c := open(t, path)
	for i := range 4 {
		c.Put(d(fmt.Sprint(i)), "a", entry("x"))
	}
	save(t, c)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f map[string]any
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	ours := f["quaymaster"].(map[string]any)
	ours[id(d("0"), "a")].(map[string]any)["digest"] = "../../etc/passwd"
	ours[id(d("1"), "a")].(map[string]any)["diff_id"] = ""
	ours[id(d("2"), "a")].(map[string]any)["size"] = -1
	ours[id(d("3"), "a")].(map[string]any)["unchanged"] = true // but with another digest
	ours["x"] = nil
	if raw, err = json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, path)
	for i := range 4 {
		if e, ok := c.Get(d(fmt.Sprint(i)), "a"); ok {
			t.Errorf("%d: got %+v", i, e)
		}
	}
}

// Nobody's entries are lost, and a run that adds nothing writes nothing.
func TestSeveralAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.json")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			c, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			c.Put(d(fmt.Sprint(i)), "a", entry(fmt.Sprint(i)))
			if err := c.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c := open(t, path)
	for i := range 16 {
		if _, ok := c.Get(d(fmt.Sprint(i)), "a"); !ok {
			t.Errorf("entry %d was lost", i)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	save(t, c)
	c.Put(d("3"), "a", entry("3"))
	save(t, c)
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written for nothing: %v", err)
	}
	c.now = func() time.Time { return time.Now().Add(48 * time.Hour) }
	c.Get(d("3"), "a")
	save(t, c)
	if after, err := os.Stat(path); err != nil || os.SameFile(before, after) {
		t.Errorf("the use of an old entry isn't noted: %v", err)
	}
}

func TestSaveWaitsForTheLockAsLongAsItMay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "cache.json")
	c := open(t, path)
	c.Put(d("a"), "a", entry("a"))
	if err := c.Save(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
	c = open(t, filepath.Join(t.TempDir(), "cache.json"))
	c.Put(d("a"), "a", entry("a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Save(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	save(t, c)
}

func TestTrim(t *testing.T) {
	f := file{ours: map[string]*made{}}
	for i := range 10 {
		f.ours[fmt.Sprint(i)] = &made{Used: time.Unix(int64(i), 0)}
	}
	f.trim(3)
	if len(f.ours) != 3 || f.ours["9"] == nil || f.ours["7"] == nil {
		t.Errorf("got %v, want the three used last", f.ours)
	}
}
