package errs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
)

// TestAllIsComplete holds All against the variables that the source declares, so that a new
// kind cannot be left out of it, and with it of the tables that are tested against it.
func TestAllIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errs.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared, listed []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for _, name := range n.Names {
				declared = append(declared, name.Name)
			}
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				listed = append(listed, e.(*ast.Ident).Name)
			}
		}
		return true
	})
	if len(declared) == 0 {
		t.Fatal("no kinds found in errs.go")
	}
	if diff := cmp.Diff(declared, listed); diff != "" {
		t.Errorf("All (-declared +listed):\n%s", diff)
	}
	if len(errs.All()) != len(declared) {
		t.Errorf("All() has %d kinds, %d are declared", len(errs.All()), len(declared))
	}
}

func TestKindsAreDistinct(t *testing.T) {
	all := errs.All()
	for i, kind := range all {
		wrapped := fmt.Errorf("get blob: %w", kind)
		for j, other := range all {
			if got, want := errors.Is(wrapped, other), i == j; got != want {
				t.Errorf("errors.Is(%q, %q) = %v, want %v", wrapped, other, got, want)
			}
		}
	}
}

// TestAllIsACopy changes what All returned.
func TestAllIsACopy(t *testing.T) {
	first := errs.All()
	kept := slices.Clone(first)
	clear(first)
	if !slices.Equal(errs.All(), kept) {
		t.Error("All() changed through the slice that it returned before")
	}
}
