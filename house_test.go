package bowline_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Longer than the house likes, with the reason why.
var (
	longFiles = map[string]string{}
	longFuncs = map[string]string{}
)

// Functions named init, with the reason why there is no other way.
var inits = map[string]string{
	"internal/netns/netns.go": "the main thread must be taken before any goroutine can run on it",
}

const (
	maxLines     = 400
	maxFuncLines = 60 // of what is shipped; tests may list
)

// eachFile parses every Go file of the module.
func eachFile(t *testing.T, f func(name string, src []byte, set *token.FileSet, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, src, parser.ParseComments)
		if err != nil {
			t.Error(err)
			return nil
		}
		f(name, src, set, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestHouse(t *testing.T) {
	t.Parallel()
	docs := map[string][]string{} // directory to files with a package comment
	eachFile(t, func(name string, src []byte, set *token.FileSet, file *ast.File) {
		test := strings.HasSuffix(name, "_test.go")
		dir := filepath.Dir(name)
		if !test {
			docs[dir] = append(docs[dir], nil...)
		}
		if file.Doc != nil && !test {
			docs[dir] = append(docs[dir], name)
		}
		if n := bytes.Count(src, []byte("\n")); n > maxLines && longFiles[name] == "" {
			t.Errorf("%s has %d lines, want at most %d: split it by noun, or list it in longFiles with the reason", name, n, maxLines)
		}
		if good, err := format.Source(src); err != nil || !bytes.Equal(good, src) {
			t.Errorf("%s is not formatted with gofmt", name)
		}
		for _, word := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X:"} {
			if bytes.Contains(src, []byte(word)) {
				t.Errorf("%s holds %s: do it, or file an issue", name, word)
			}
		}
		functions(t, name, set, file, test)
	})
	for dir, files := range docs {
		if len(files) != 1 {
			t.Errorf("package comments in %s: %q, want exactly one", dir, files)
		}
	}
}

// functions checks each function of a file.
func functions(t *testing.T, name string, set *token.FileSet, file *ast.File, test bool) {
	t.Helper()
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		if lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; !test && lines > maxFuncLines && longFuncs[name+" "+fn.Name.Name] == "" {
			t.Errorf("%s: function %s has %d lines, want at most %d: split it, or list it in longFuncs with the reason", name, fn.Name.Name, lines, maxFuncLines)
		}
		if fn.Name.Name == "init" && fn.Recv == nil && inits[name] == "" {
			t.Errorf("%s: init runs at every start of a process, wanted or not: do it where it is needed", name)
		}
	}
	if !test {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
				t.Errorf("%s: time.Sleep in a test: wait for the event, or poll with a deadline", set.Position(sel.Pos()))
			}
		}
		return true
	})
}
