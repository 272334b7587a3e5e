package archtest

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// talkers may read the environment, print and exit. Everything else is given
// values and returns them, so that it works inside another program too.
var talkers = []string{"internal/cli", "cmd", "internal/demo", "internal/need", "internal/daemontest", benchkit}

// forbidden names what only talkers use: package path -> names, nil for all.
var forbidden = map[string][]string{
	"github.com/spf13/cobra": nil,
	"log":                    nil,
	"flag":                   nil,
	"fmt":                    {"Print", "Printf", "Println", "Scan", "Scanf", "Scanln"},
	"os":                     {"Exit", "Getenv", "LookupEnv", "Environ", "ExpandEnv", "Stdin", "Stdout", "Stderr", "Args"},
	"os/signal":              nil,
}

func TestOnlyTheCommandLineTalks(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || in(talkers, s.pkg) || within(s.pkg, e2e) {
			continue
		}
		s.uses(func(n ast.Node, pkg, name string) {
			if names, ok := forbidden[pkg]; ok && (names == nil || slices.Contains(names, name)) {
				t.Errorf("%s: %s.%s: only internal/cli reads the environment, prints and exits; take a value, a writer or a *slog.Logger", s.at(n), pkg, name)
			}
		})
	}
}

// TestClientsAreGiven holds everyone to the caller's HTTP client, where
// credentials, limits and retries live.
func TestClientsAreGiven(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || in(testTools, s.pkg) || in(outside, s.pkg) || within(s.pkg, e2e) {
			continue
		}
		s.uses(func(n ast.Node, pkg, name string) {
			if pkg == module+"/internal/transport" && name == "New" && !within(s.pkg, "internal/cli") {
				t.Errorf("%s: only internal/cli makes transports; take an *http.Client", s.at(n))
			}
			if pkg == "net/http" && slices.Contains([]string{"DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm"}, name) && s.pkg != "internal/transport" {
				t.Errorf("%s: http.%s: use the client that the caller gave", s.at(n), name)
			}
		})
		// backend/registry reads the errors that come through its client.
		spec := s.imports()[module+"/internal/transport"]
		if spec != nil && !in([]string{"internal/cli", "backend/registry"}, s.pkg) {
			t.Errorf("%s: %s takes any *http.Client and knows no transport", s.at(spec), s.pkg)
		}
	}
}

// TestNothingHappensAtImport: tables are written out, so that a reader finds
// who is in them.
func TestNothingHappensAtImport(t *testing.T) {
	for _, s := range tree(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !s.test {
				t.Errorf("%s: no init functions; write a line into a table", s.at(f))
			}
		}
		for p, spec := range s.imports() {
			if spec.Name == nil || spec.Name.Name != "_" {
				continue
			}
			// A hash is known to go-digest once it is linked; //go:embed wants its
			// package imported. distribution's drivers have no other way.
			ok := strings.HasPrefix(p, "crypto/") || p == "embed" || within(s.pkg, e2e) && strings.HasPrefix(p, "github.com/distribution/")
			if !ok {
				t.Errorf("%s: no blank imports; write a line into a table", s.at(spec))
			}
		}
	}
}

// TestHeavyLibraries keeps cloud SDKs out of the program's module.
func TestHeavyLibraries(t *testing.T) {
	for _, s := range tree(t) {
		for p, spec := range s.imports() {
			heavy := strings.HasPrefix(p, "github.com/distribution/distribution") || strings.HasPrefix(p, "github.com/google/go-containerregistry")
			if heavy && !within(s.pkg, e2e) && !within(s.pkg, benchkit) {
				t.Errorf("%s: only the nested modules import %s", s.at(spec), p)
			}
		}
	}
}

// skipRE finds testscript's skip command, also behind conditions.
var skipRE = regexp.MustCompile(`(?m)^[ \t]*(\[[^\]]*\][ \t]*)*skip\b`)

// TestNoTestSkips: internal/need is the one helper that may, and under CI=true
// it fails instead.
func TestNoTestSkips(t *testing.T) {
	for _, s := range tree(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || s.pkg == "internal/need" {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				t.Errorf("%s: no test skips; say what it needs by internal/need", s.at(call))
			}
			return true
		})
	}
	err := walk(func(name string, body []byte) error {
		if path.Ext(name) != ".go" && strings.Contains(name, "testdata/") && skipRE.Match(body) {
			t.Errorf("%s: no script skips; say what it needs by internal/need", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// longFiles are the files over maxLines, each with its reason.
var longFiles = map[string]string{}

const maxLines = 400

func TestFilesAreShort(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range tree(t) {
		if s.test || s.lines <= maxLines {
			continue
		}
		seen[s.path] = true
		if longFiles[s.path] == "" {
			t.Errorf("%s has %d lines, more than %d: it holds a second noun; give that a file", s.path, s.lines, maxLines)
		}
	}
	for p := range longFiles {
		if !seen[p] {
			t.Errorf("%s is listed as long, but it isn't", p)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	said := map[string]bool{}
	for _, s := range tree(t) {
		said[s.pkg] = said[s.pkg] || s.file.Doc != nil && (!s.test || within(s.pkg, e2e))
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("%s has no package comment: what is it, how do its parts meet, what doesn't it do?", pkg)
		}
	}
}

func TestNamesSayWhat(t *testing.T) {
	for _, s := range tree(t) {
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc", "pkg"}, path.Base(s.pkg)) {
			t.Errorf("%s: a package is named for a place or a verb", s.pkg)
		}
	}
}
