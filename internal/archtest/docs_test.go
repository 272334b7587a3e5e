package archtest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// linkRE finds links to files of this repository: no scheme, no bare #anchor.
var linkRE = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)

func TestLinksLead(t *testing.T) {
	links := 0
	err := walk(func(name string, body []byte) error {
		if path.Ext(name) != ".md" {
			return nil
		}
		for _, m := range linkRE.FindAllSubmatch(body, -1) {
			links++
			target := path.Join(path.Dir(name), string(m[1]))
			if strings.HasPrefix(target, "../") {
				t.Errorf("%s links outside of the repository: %s", name, m[1])
			} else if _, err := os.Stat(filepath.Join("..", "..", target)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if links < 20 {
		t.Errorf("found %d links only; are the docs elsewhere?", links)
	}
}

// fragmentRE is a fragment of the changelog: kind, a sentence, an empty line, and more.
var fragmentRE = regexp.MustCompile(`^(Breaking|Security|Added|Changed|Fixed): [^\n]+[^.\n]\n\n\S(?s:.*)\n$`)

func TestChangelogFragments(t *testing.T) {
	dir := filepath.Join("..", "..", "changelog", "unreleased")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() == "TEMPLATE" {
			continue
		}
		body, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !fragmentRE.Match(body) {
			t.Errorf("changelog/unreleased/%s isn't written as TEMPLATE says", f.Name())
		}
	}
}
