package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/oci"
)

// layoutOf puts img into a new OCI layout, by the tool.
func layoutOf(t *testing.T, img imagetest.Image) string {
	t.Helper()
	from := startRegistry(t, nil)
	if err := img.Push(t.Context(), from.URL, "team/app", "v1", ""); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "layout")
	processed(t, "registry://"+from.host+"/team/app:v1", "ocidir://"+out+":v1")
	if got := onlyDigest(t, out); got != img.Desc.Digest {
		t.Fatalf("it was copied as %s, want %s", got, img.Desc.Digest)
	}
	return out
}

// onlyDigest gives what the only name in a layout means, all of which is whole.
func onlyDigest(t *testing.T, folder string) oci.Digest {
	t.Helper()
	f := walkLayout(t, folder)
	if len(f.wrong) > 0 || len(f.temp) > 0 || len(f.names) != 1 {
		t.Fatalf("%s: %q, temporary files %q, names %v", folder, f.wrong, f.temp, f.names)
	}
	for _, d := range f.names {
		return d
	}
	return ""
}

// filtered puts the only image of a layout through filters into a new one.
func filtered(t *testing.T, layout string, specs ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "layout")
	args := []string{"ocidir://" + layout + ":v1", "ocidir://" + out + ":v1"}
	for _, s := range specs {
		args = append(args, "-f", s)
	}
	processed(t, args...)
	return out
}

// valid asks go-containerregistry and the tool's own check about a layout.
func valid(t *testing.T, folder string) {
	t.Helper()
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("go-containerregistry: %v", err)
	}
	if r := run(t, "check", "ocidir://"+folder+":v1"); r.status != 0 {
		t.Errorf("check: status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

// An edit changes a line of what tell prints; "" takes it away.
type edit func(line string) string

func replace(pattern, by string) edit {
	re := regexp.MustCompile(pattern)
	return func(line string) string { return re.ReplaceAllString(line, by) }
}

// without takes away lines of paths that match.
func without(pattern string) edit {
	re := regexp.MustCompile(` '?/(?:` + pattern + `)(?:$|/|')`)
	return func(line string) string {
		if re.MatchString(line) {
			return ""
		}
		return line
	}
}

// edited gives the lines of text, each changed by edits, sorted: a new owner or time
// moves a line in what tell sorts.
func edited(text string, edits ...edit) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		for _, e := range edits {
			line = e(line)
		}
		if line != "" {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// later is an edit of times after limit, in seconds since 1970.
func later(limit int64) edit {
	re := regexp.MustCompile(`mtime=(\d+)`)
	return func(line string) string {
		m := re.FindStringSubmatch(line)
		if m == nil {
			return line
		}
		if got, err := strconv.ParseInt(m[1], 10, 64); err != nil || got <= limit {
			return line
		}
		return re.ReplaceAllString(line, "mtime="+strconv.FormatInt(limit, 10))
	}
}

// TestFilteredImagesRun is what filters promise of an image of real files: it is
// valid, Docker loads and runs it, and what it then sees is what was there, but
// for what the filters say.
func TestFilteredImagesRun(t *testing.T) {
	t.Parallel()
	original := layoutOf(t, debianImage(t))
	valid(t, original)
	d := daemontest.Docker(t)
	printed := prints(t, d, original)
	if lines := edited(printed); len(lines) < 80 || !slices.Contains(lines, "CapEff:\t0000000000002000") || strings.Contains(printed, "/etc/gone") || strings.Contains(printed, "/old") {
		t.Fatalf("the image without filters prints\n%s", printed)
	}
	noCaps := replace(`^CapEff:.*`, "CapEff:\t0000000000000000")
	owner := replace(`^(dir|file) (\S+) \d+:\d+ `, "$1 $2 12:34 ")
	gone := without(`usr/share/doc|var/cache/list\.bin|opt/links/a|opt/données/naïve-日本語\.txt`)
	oneLess := replace(`links=3 (.*/opt/links/)`, "links=2 $1")
	tests := []struct {
		name  string
		specs []string
		want  []edit // nil: the image stays as it is
	}{
		{"normalize-timestamps", []string{"normalize-timestamps:ts=1600000000"}, []edit{replace(`mtime=\d+`, "mtime=1600000000")}},
		{"normalize-timestamps, clamp", []string{"normalize-timestamps:ts=1650000000,mode=clamp"}, []edit{later(1650000000)}},
		{"exclude", []string{"exclude:pattern=usr/share/doc,var/cache/*,opt/links/a,**/naïve-*.txt"}, []edit{gone, oneLess}},
		{"exclude, deletions", []string{"exclude:pattern=etc/gone,var/lib/app/old"}, []edit{}}, // whiteouts go with their targets
		{"strip-xattrs", []string{"strip-xattrs"}, []edit{noCaps}},
		{"strip-xattrs, some", []string{"strip-xattrs:keep=security.capability"}, []edit{}},
		{"chown", []string{"chown:uid=12,gid=34"}, []edit{owner}},
		{"set-config", []string{"set-config:env=COLOUR=blue,label=maintainer=somebody"}, []edit{replace(`^colour .*`, "colour blue")}},
		{"search", []string{"search:pattern=*.txt"}, nil},
		{"chain of three", []string{"normalize-timestamps:ts=1600000000", "exclude:pattern=usr/share/doc,var/cache/*,opt/links/a,**/naïve-*.txt", "chown:uid=12,gid=34"},
			[]edit{replace(`mtime=\d+`, "mtime=1600000000"), gone, oneLess, owner}},
		{"three that find nothing", []string{"normalize-timestamps:ts=4000000000,mode=clamp", "exclude:pattern=no/such/file", "strip-xattrs:only=trusted.*"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filtered(t, original, tt.specs...)
			got, before := onlyDigest(t, out), onlyDigest(t, original)
			if (got == before) != (tt.want == nil) {
				t.Errorf("the image's digest is %s, before the filters it was %s", got, before)
			}
			if tt.want == nil {
				return // it is the image that was looked at
			}
			if again := onlyDigest(t, filtered(t, original, tt.specs...)); again != got {
				t.Errorf("the second time its digest is %s, the first time it was %s", again, got)
			}
			valid(t, out)
			sees(t, edited(prints(t, d, out)), edited(printed, tt.want...))
		})
	}
	t.Run("inspect", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "inspected.jsonl")
		if got, before := onlyDigest(t, filtered(t, original, "inspect:file="+file)), onlyDigest(t, original); got != before {
			t.Errorf("the image's digest is %s, before the filter it was %s", got, before)
		}
		var line struct{ Layers []json.RawMessage }
		if raw, err := os.ReadFile(file); err != nil || json.Unmarshal(raw, &line) != nil || len(line.Layers) != 6 {
			t.Errorf("inspect wrote %q, %v", raw, err)
		}
	})
}

// sees compares lines that are sorted.
func sees(t *testing.T, got, want []string) {
	t.Helper()
	for _, l := range got {
		if _, ok := slices.BinarySearch(want, l); !ok {
			t.Errorf("it has\t%s", l)
		}
	}
	for _, l := range want {
		if _, ok := slices.BinarySearch(got, l); !ok {
			t.Errorf("it lacks\t%s", l)
		}
	}
}
