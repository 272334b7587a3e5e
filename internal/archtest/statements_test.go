package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// statements is how many statements docs/pubtools-quay.md has, from A1 on.
const statements = 84

var (
	statementRE = regexp.MustCompile(`(?m)^\| (A\d+) \| [^|\n]+ \|$`)
	numberRE    = regexp.MustCompile(`\bA\d+\b`)
)

// Each statement that docs/pubtools-quay.md makes is named by a test.
func TestStatementsAreTested(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "pubtools-quay.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, m := range statementRE.FindAllSubmatch(doc, -1) {
		told[string(m[1])]++
	}
	named := map[string]bool{}
	err = walk(func(name string, body []byte) error {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".txtar") {
			for _, n := range numberRE.FindAll(body, -1) {
				named[string(n)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range statements {
		a := fmt.Sprintf("A%d", i+1)
		if told[a] != 1 {
			t.Errorf("docs/pubtools-quay.md tells %s %d times, want once", a, told[a])
		}
		if !named[a] {
			t.Errorf("%s of docs/pubtools-quay.md has no test", a)
		}
	}
}
