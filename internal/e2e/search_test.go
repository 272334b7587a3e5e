package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/transport"
)

// A search that must know what every layer hides keeps little of each.
func TestMemoryOfSearch(t *testing.T) {
	const images, files = 100, 20_000
	from := spawnRegistry(t, t.TempDir())
	many := map[string]string{}
	for i := range files {
		many[fmt.Sprintf("usr/lib/python3/dist-packages/module%d/file-%d.py", i%97, i)] = strings.Repeat("x", i%2000)
	}
	base := imagetest.Files(many)
	e := env(t, transport.Options{})
	var list strings.Builder
	var g errgroup.Group
	g.SetLimit(8) // each waits for the disk
	for i := range images {
		repo := fmt.Sprintf("team/app%03d", i)
		fmt.Fprintf(&list, "%s/%s:v1\n", from, repo)
		push := func() error {
			own := imagetest.Files(map[string]string{"usr/lib/own": fmt.Sprint(i), "usr/lib/python3/dist-packages/module1/.wh.file-98.py": ""})
			return pushShared(t, e, from, repo, base, imagetest.New(imagetest.Linux, nil, base, own))
		}
		if i > 0 { // which has the base
			g.Go(push)
		} else if err := push(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r := must(t, "search", "--plain-http", "list://"+file, "file-9?.py", "-O", "jsonl")
	small(t, r, mostPasses)
	if all, hidden := strings.Count(r.stdout, "\n"), strings.Count(r.stdout, `"hidden":true`); all != 10*images || hidden != images {
		t.Errorf("%d matches, %d of them hidden; want %d and %d", all, hidden, 10*images, images)
	}
	if want := fmt.Sprintf("read %d distinct layers", images+1); !strings.Contains(r.stderr, want) {
		t.Errorf("%q doesn't say %q", r.stderr, want)
	}
}
