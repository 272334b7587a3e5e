package filter_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/quaymaster/quaymaster/filter"
	"github.com/quaymaster/quaymaster/oci"
)

const history = `[
	{"created":"2023-11-14T22:13:20.123456789Z","created_by":"ADD rootfs / # é \ud83d\ude00 <a&b>"},
	{"created":"2023-11-14T22:13:21Z","created_by":"CMD [\"sh\"]","empty_layer":true},
	{"created":"2023-11-14T23:13:22+01:00","created_by":"RUN x","comment":"buildkit"},
	{"created":"yesterday"}]`

// inspectedImage has three layers, the second of which a filter changed.
func inspectedImage(t *testing.T) filter.Outcome {
	t.Helper()
	o := outcome(t, "quay.io/org/app:v1", digest.FromString("1"), digest.FromString("2"), digest.FromString("3"))
	o.Layers[1].Before.Size = 10240
	o.Layers[1].After = filter.State{Digest: digest.FromString("2 packed anew"), DiffID: digest.FromString("2 anew"), Size: 5120}
	o.Layers[2].Before.Size, o.Layers[2].After.Size = -1, -1
	o.Image.Config = map[string]json.RawMessage{"history": json.RawMessage(history)}
	return o
}

func TestInspect(t *testing.T) {
	id := func(s string) string { return "sha256:" + digest.FromString(s).Encoded() }
	line := func(secondID string, secondSize int, end string) string {
		return `{"layers": [` +
			`{"Comment": "", "Created": 0, "CreatedBy": "", "Id": "` + id("3") + `", "Size": 0, "Tags": ["org/app:v1"]}, ` +
			`{"Comment": "buildkit", "Created": 1700000002, "CreatedBy": "RUN x", "Id": "` + secondID + `", "Size": ` + fmt.Sprint(secondSize) + `, "Tags": null}, ` +
			`{"Comment": "", "Created": 1700000000, "CreatedBy": "ADD rootfs / # \u00e9 \ud83d\ude00 <a&b>", "Id": "` + id("1") + `", "Size": 10, "Tags": null}], ` +
			`"name": "org/app:v1"` + end + "}\n"
	}
	before, after := line(id("2"), 10240, ""), line(id("2 anew"), 5120, "")
	tests := []struct {
		name  string
		specs []string // FILE is the file
		child bool
		want  string
	}{
		{"alone: the source", []string{"inspect:file=FILE"}, false, before},
		{"before a filter: the source", []string{"inspect:file=FILE", "chown:uid=0"}, false, before},
		{"behind a filter: what it made", []string{"chown:uid=0", "inspect:file=FILE"}, false, after},
		{"on both sides", []string{"inspect:file=FILE", "exclude:pattern=a", "inspect:file=FILE"}, false, before + after},
		{"behind a filter that only looks: the source", []string{"search:pattern=*", "inspect:file=FILE"}, false, before},
		{"one of an index", []string{"inspect:file=FILE"}, true, line(id("2"), 10240, `, "platform": "linux/arm64/v8"`)},
	}
	for _, tt := range tests {
		file := filepath.Join(t.TempDir(), "a,b.jsonl")
		for i := range tt.specs {
			tt.specs[i] = strings.ReplaceAll(tt.specs[i], "FILE", file)
		}
		c := parse(t, tt.specs...)
		o := inspectedImage(t)
		o.Child = tt.child
		o.Image.Platform = oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
		for _, l := range o.Layers {
			pass(t, c.Entries, l.Before.Digest)
		}
		if !c.Looks {
			t.Errorf("%s: sizes need reading", tt.name)
		}
		if err := c.Observe(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %v\n%s\nwant\n%s", tt.name, err, got, tt.want)
		}
	}
}

// TestInspectAppends: lines that were there stay, and those of images that end
// at once, in several chains, don't mix.
func TestInspectAppends(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.jsonl")
	if err := os.WriteFile(file, []byte("{\"first\": 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const chains, images = 2, 50
	var wg sync.WaitGroup
	for range chains {
		c := parse(t, "inspect:file="+file)
		for range images {
			wg.Go(func() {
				if err := c.Observe(t.Context(), inspectedImage(t)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
	if len(lines) != 1+chains*images || lines[0] != "{\"first\": 1}\n" {
		t.Fatalf("got %d lines, the first %q", len(lines), lines[0])
	}
	for _, l := range lines[2:] {
		if strings.TrimSuffix(l, "\n") != strings.TrimSuffix(lines[1], "\n") {
			t.Fatalf("got %q", l)
		}
	}
}

func TestInspectTellsFailures(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := parse(t, "inspect:file="+filepath.Join(dir, "x"))
	o := inspectedImage(t)
	o.Image.Config["history"] = json.RawMessage(`"no list"`)
	if err := c.Observe(t.Context(), o); !errors.Is(err, oci.ErrInvalid) {
		t.Errorf("a history that is no list: %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := c.Observe(t.Context(), inspectedImage(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that went away: %v", err)
	}
}

func TestInspectWithoutHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	o := outcome(t, "quay.io/org/app:v1")
	if err := parse(t, "inspect:file="+file).Observe(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(file); string(got) != "{\"layers\": [], \"name\": \"org/app:v1\"}\n" {
		t.Errorf("got %s", got)
	}
}
