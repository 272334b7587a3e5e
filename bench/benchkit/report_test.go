package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// written writes files of results and reads them back.
func written(t *testing.T, runs []run, asked []requests, facts ...string) *results {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.tsv")
	w, err := openWriter(path, &strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if err := w.run(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range asked {
		if err := w.requests(q); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < len(facts); i += 2 {
		if err := w.fact(facts[i], facts[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGoalsAreRatiosOfMedians(t *testing.T) {
	one := func(tool string, clean bool, wall float64) run {
		return run{scenario: "bulk-org-small-cold", tool: tool, rep: 1, wall: wall, user: wall / 2, rss: 20 << 10, clean: clean}
	}
	r := written(t, []run{
		one("floor:4", true, 2), one(us, true, 2.4), one(us, false, 9), one(us, true, 2.2), one(us, true, 2.3),
		one("crane:4", true, 6), one("skopeo-cgo", true, 4), one("skopeo-cgo", true, 5), one("oras:4", false, 3.1),
		{scenario: "bulk-org-small-cold", tool: "regsync:4", status: 1},
	}, []requests{
		{"lat-org-small-cold", us, "source", counts{"GET.blobs": 172, "total": 300, "conns": 8}},
		{"lat-org-small-cold", us, "dest", counts{"PUT.uploads": 173, "total": 400, "conns": 9}},
	}, "data lat-org-small", "images=40 distinct=172", "verify bulk-org-small-cold crane:4", "differs")
	text := r.markdown()
	for _, want := range []string{
		"| 1 | bulk-org-small-cold | wall, of the fastest peer's | 0.50x | 0.74x (2.30 to oras:4 3.10 s) | **missed** |",
		"| 1 | bulk-org-small-cold | wall, of the floor's | 1.25x | 1.15x (2.30 to floor:4 2.00 s) | met |",
		"| 2 | bulk-multiarch-cold | wall, of the fastest peer's | 0.55x |  | not run |",
		"| 4 | lat-org-small-cold | blobs fetched, of the distinct ones | 1x | 1x (172 of 172) | met |",
		"| 4 | lat-org-small-cold | blobs uploaded, of the distinct ones | 1x | 1.01x (173 of 172) | **missed** |",
		"| 5 | all through proxies | connections to one registry | 8 | 9 | **missed** |",
		"| 13 | all copies | peak resident MiB | 48 | 20 (bulk-org-small-cold) | met |",
		"| " + us + " | 3 | 2.30 | 2.20-2.40 | 1.15 | 20 | 0.00 | 0.00 |",
		"| oras:4 (machine not quiet: wall too high) | 1 | 3.10 |",
		"| crane:4 (output wrong) | 1 | 6.00 |",
		"| regsync:4 | 0 | failed | | | | | |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

func TestReportReplacesItsBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("before\n"+blockBegin+"\nold\n"+blockEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := replaceBlock(path, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + blockBegin + "\n\nnew\n\n" + blockEnd + "\nafter\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := os.WriteFile(path, []byte("no block\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceBlock(path, "new\n"); err == nil {
		t.Error("a file without markers is taken")
	}
}

func TestPlansNameKnownScenarios(t *testing.T) {
	all := scenarios(40, "20ms")
	whole, err := choose(all, nil, nil)
	if err != nil || len(whole) < 13 || len(whole) == len(all) {
		t.Errorf("%d of %d scenarios, %v", len(whole), len(all), err)
	}
	few, err := choose(all, []string{"one-tar", "normalize-tar"}, []string{us})
	if err != nil || len(few) != 2 || few[1].name != "normalize-tar" || len(few[0].by) != 1 {
		t.Errorf("%v, %v", few, err)
	}
	if _, err := choose(all, []string{"one"}, nil); err == nil {
		t.Error("a scenario that there isn't is taken")
	}
	measured := map[string]bool{"all copies": true, "all through proxies": true, "normalize, search": true}
	for _, s := range whole {
		for _, suffix := range []string{"", "-cold", "-warm"} {
			measured[s.name+suffix] = true
		}
	}
	for _, g := range goals() {
		if !measured[g.scenario] {
			t.Errorf("goal %d is of %s, which a whole run doesn't measure", g.number, g.scenario)
		}
	}
}
