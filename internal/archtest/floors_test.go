package archtest

import (
	"fmt"
	"strings"
	"testing"
)

// A floor is a set of packages that don't know each other and may import any
// lower floor.
type floor struct {
	packages []string // folders; "backend/*" is every folder right below backend
	why      string   // what would be lost if they knew what is above or beside them
}

// floors are the building, lowest first.
var floors = []floor{
	{[]string{"oci"}, "the nouns that everyone speaks can't depend on anyone"},
	{[]string{"internal/transport", "internal/safepath", "internal/lockfile", "internal/fnmatch", "internal/jsonedit", "internal/spool", "internal/engine", "internal/journal", "internal/gunzip"},
		"connections, paths, locks, globs, spools, edits of JSON and gzip serve every floor, so they know none"},
	{[]string{"internal/stage", "internal/statefile", "internal/tarfile"}, "folders and what runs leave for each other are written durably, archives are read, whatever is in them"},
	{[]string{"internal/layercache", "internal/blobcache"}, "what one run tells the next is no business of the places that are read and written"},
	{[]string{"layer", "index", "layout", "quay", "filter", "companion"}, "each is useful alone, outside this program too"},
	{[]string{"extract", "internal/dockersave"}, "root file systems and docker's archives are the same whichever place holds them"},
	{[]string{"internal/runspec"}, "how a container is run is the same wherever its root file system is"},
	{[]string{"filetree"}, "files in layers are the same whoever asks for them, and wherever the layers are"},
	{[]string{"backend"}, "the grammar of places doesn't know which places there are"},
	{[]string{"backend/*"}, "a new place is one folder and one line; no place knows another"},
	{[]string{"backend/all", "discover", "check", "search"}, "a way to find images has its places opened by the caller, so that any place can be found into"},
	{[]string{"pipeline"}, "one image: it must not know how many there are"},
	{[]string{"bulk", "diff"}, "many images: they must not know who asked, nor how that is shown"},
	{[]string{"publish", "proxy"}, "what is built from bulk runs doesn't know the command line"},
	{[]string{"internal/cli"}, "flags in, one library call, text or JSON out"},
	{[]string{"cmd/quaymaster"}, "ten lines"},
}

// testTools are imported by tests, by each other and by the demo; no program
// that ships may hold them. They import the nouns, and nothing that they test.
var testTools = []string{"internal/imagetest", "internal/quaytest", "internal/need", "internal/daemontest"}

// outside are programs and tests that stand beside the building: they may
// import the test tools, and drive the rest from outside.
var outside = []string{"internal/demo", "internal/archtest", benchkit}

// suites are tests of the finished building, without code that could be imported:
// they may import every floor, since what they hold each backend to is what the
// others, and the pipeline above them, rely on.
var suites = []string{"internal/suite"}

// e2e is the nested module of the tests that need heavy libraries. It sees
// everything, nothing sees it.
const e2e = "internal/e2e"

// benchkit is the nested module of the benchmarks: peers' libraries are in it.
const benchkit = "bench/benchkit"

// level gives the floor of folder pkg, -1 if it has none.
func level(pkg string) int {
	wild := -1
	for i, f := range floors {
		for _, p := range f.packages {
			if p == pkg {
				return i
			}
			if dir, ok := strings.CutSuffix(p, "/*"); ok && strings.HasPrefix(pkg, dir+"/") && !strings.Contains(pkg[len(dir)+1:], "/") {
				wild = i
			}
		}
	}
	return wild
}

// mayImport returns "" if a file of from, a test or not, may import to, else the reason.
func mayImport(from, to string, test bool) string {
	switch {
	case within(from, e2e), from == to && test:
		return ""
	case within(to, e2e):
		return "internal/e2e is a module of its own, so that its cloud SDKs stay out of this one"
	case in(testTools, to):
		if test || in(testTools, from) || in(outside, from) {
			return ""
		}
		return "a test tool; no program that ships may hold it"
	case in(outside, to):
		return "it is a program"
	case in(suites, to):
		return "it has tests only"
	case in(suites, from):
		if test {
			return ""
		}
		return "it has tests only, so that nothing that ships can hold them"
	case in(testTools, from):
		if to == "oci" || test {
			return ""
		}
		return "a test tool must not share code with what it tests"
	case in(outside, from):
		if to == "oci" {
			return ""
		}
		return "it drives the built program and shares nothing with it"
	}
	a, b := level(from), level(to)
	switch {
	case a < 0 || b < 0:
		return "" // TestEveryPackageHasAFloor speaks of it
	case b == a:
		return fmt.Sprintf("they share floor %d: %s", a, floors[a].why)
	case b > a:
		return fmt.Sprintf("floor %d is above floor %d: %s", b, a, floors[a].why)
	}
	return ""
}

func in(list []string, pkg string) bool {
	for _, p := range list {
		if within(pkg, p) {
			return true
		}
	}
	return false
}

// within reports whether pkg is dir or lies below it.
func within(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

func TestEveryPackageHasAFloor(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range tree(t) {
		if seen[s.pkg] {
			continue
		}
		seen[s.pkg] = true
		if level(s.pkg) < 0 && !in(testTools, s.pkg) && !in(outside, s.pkg) && !in(suites, s.pkg) && !within(s.pkg, e2e) {
			t.Errorf("%s has no floor: put it into the table in internal/archtest/floors_test.go", s.pkg)
		}
	}
}

func TestImportsGoDown(t *testing.T) {
	for _, s := range tree(t) {
		for p, spec := range s.imports() {
			if to, ok := strings.CutPrefix(p, module+"/"); ok {
				if why := mayImport(s.pkg, to, s.test); why != "" {
					t.Errorf("%s: %s imports %s: %s", s.at(spec), s.pkg, to, why)
				}
			}
		}
	}
}

// TestTheTableRefuses shows that the rules above can fail.
func TestTheTableRefuses(t *testing.T) {
	tests := []struct {
		from, to string
		test, ok bool
	}{
		{"pipeline", "oci", false, true},
		{"backend/registry", "backend", false, true},
		{"backend/all", "backend/registry", false, true},
		{"internal/e2e/bulk", "internal/cli", true, true},
		{"layer", "internal/imagetest", true, true},
		{"internal/demo", "internal/quaytest", false, true},
		{"bench/benchkit", "internal/quaytest", false, true},
		{"oci", "oci", true, true},
		{"backend", "backend/registry", false, false},
		{"backend/dir", "backend/ocidir", false, false},
		{"quay", "layer", false, false},
		{"quay", "internal/cli", true, false},
		{"discover", "backend/all", false, false},
		{"layer", "internal/imagetest", false, false},
		{"internal/quaytest", "quay", false, false},
		{"internal/demo", "bulk", false, false},
		{"bench/benchkit", "bulk", false, false},
		{"pipeline", "internal/e2e", true, false},
		{"internal/suite", "bulk", true, true},
		{"internal/suite", "bulk", false, false},
		{"bulk", "internal/suite", true, false},
	}
	for _, tt := range tests {
		if why := mayImport(tt.from, tt.to, tt.test); (why == "") != tt.ok {
			t.Errorf("%s -> %s (test %v): got %q, want allowed %v", tt.from, tt.to, tt.test, why, tt.ok)
		}
	}
}
