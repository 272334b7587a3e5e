package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the import path of the main module; e2e's packages lie below it.
const module = "github.com/quaymaster/quaymaster"

// A source is one parsed Go file.
type source struct {
	path  string // from the module's root, with slashes: "oci/ref.go"
	pkg   string // folder: "oci"
	test  bool   // a _test.go file
	lines int
	fset  *token.FileSet
	file  *ast.File
}

// at gives "path:line" of n.
func (s source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// imports gives the import specs with their paths.
func (s source) imports() map[string]*ast.ImportSpec {
	m := map[string]*ast.ImportSpec{}
	for _, spec := range s.file.Imports {
		p, _ := strconv.Unquote(spec.Path.Value) // the parser has read it as a string
		m[p] = spec
	}
	return m
}

// uses calls do for each NAME of a selector PKG.NAME, where PKG is the import
// path of a package that s imports.
func (s source) uses(do func(n ast.Node, pkg, name string)) {
	local := map[string]string{}
	for p, spec := range s.imports() {
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		local[name] = p
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && local[id.Name] != "" {
				do(sel, local[id.Name], sel.Sel.Name)
			}
		}
		return true
	})
}

// tree gives every Go file of the main module and of the nested ones. Files for the
// build tag "tools" are left out: they pin modules and are no program.
func tree(t *testing.T) []source {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found %d Go files only; is the module's root elsewhere?", len(all))
	}
	return all
}

// parsed reads the tree once for all tests.
var parsed = sync.OnceValues(func() (all []source, _ error) {
	err := walk(func(name string, body []byte) error {
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		s := source{path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(body, []byte("\n")), fset: token.NewFileSet()}
		var err error
		if s.file, err = parser.ParseFile(s.fset, name, body, parser.ParseComments|parser.SkipObjectResolution); err != nil {
			return err
		}
		if !bytes.Contains(body[:s.file.Package-1], []byte("//go:build tools\n")) {
			all = append(all, s)
		}
		return nil
	})
	return all, err
})

// walk calls do for each file of the module with its path from the root.
func walk(do func(name string, body []byte) error) error {
	root := os.DirFS(filepath.Join("..", ".."))
	return fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || name == "tools"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		switch path.Ext(name) {
		case ".go", ".md", ".txtar", ".txt":
			body, err := fs.ReadFile(root, name)
			if err != nil {
				return err
			}
			return do(name, body)
		}
		return nil
	})
}
