package check_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/check"
)

// TestTheDocsHaveTheTable: UPDATE_DOCS=1 writes it anew.
func TestTheDocsHaveTheTable(t *testing.T) {
	const file, begin, end = "../docs/check.md", "| check | worst | mode | says that |\n|---|---|---|---|\n", "\n\n<!-- end of the table -->"
	var rows []string
	for _, c := range check.Table {
		mode := "fast"
		if c.Full {
			mode = "full"
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |", c.ID, c.Severity, mode, c.Gist))
	}
	want := strings.Join(rows, "\n")
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/check.md has no table")
	}
	if got != want && os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("docs/check.md has\n%s\nand check.Table\n%s", got, want)
	}
}
