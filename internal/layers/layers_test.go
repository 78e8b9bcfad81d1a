package layers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLayers applies the rules to the project.
func TestLayers(t *testing.T) {
	all, err := List(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range all {
		seen[p.ImportPath] = true
	}
	for _, name := range []string{"errs", "chunk", "internal/layers"} {
		if !seen[Module+"/"+name] {
			t.Errorf("package %s was not looked at", name)
		}
	}
	for _, line := range Check(all) {
		t.Error(line)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name, pkg, imports string
		want               string // "" if it may
	}{
		{"lower floor", "blob", Module + "/chunk", ""},
		{"much lower floor", "cmd/zosfs", Module + "/errs", ""},
		{"higher floor", "chunk", Module + "/blob", "chunk imports blob: floor 1 lies above floor 0"},
		{"same floor", "flist", Module + "/store", "flist imports store: both are on floor 2"},
		{"same pattern", "store/retry", Module + "/store/mem", "store/retry imports store/mem: both are on floor 3"},
		{"exact name before pattern", "store/all", Module + "/store/mem", ""},
		{"below a free floor", "mount", Module + "/mount/fusefs", ""},
		{"parent from child", "mount/fusefs", Module + "/mount", "mount/fusefs imports mount: floor 5 lies above floor 4"},
		{"internal and internal", "internal/treetest", Module + "/internal/testenv", ""},
		{"internal and errs", "internal/atomicfile", Module + "/errs", ""},
		{"internal and chunk", "internal/term", Module + "/chunk", "internal/term imports chunk: both are on floor 0"},
		{"chunk and errs", "chunk", Module + "/errs", "chunk imports errs: both are on floor 0"},
		{"new package", "util", "fmt", "util is on no floor"},
		{"import of a new package", "node", Module + "/util", "node imports util: that is on no floor"},
		{"benchmark", "bench", "github.com/hanwen/go-fuse/v2/fuse", ""},
		{"dependency at home", "mount/fusefs", "github.com/hanwen/go-fuse/v2/fuse", ""},
		{
			"dependency not at home", "node", "github.com/hanwen/go-fuse/v2/fuse",
			"node imports github.com/hanwen/go-fuse/v2/fuse: its home is mount/fusefs",
		},
		{"standard library not at home", "cache", "database/sql", "cache imports database/sql: its home is flist, flist/legacy, hub/db"},
		{"name that only begins alike", "cache", "github.com/awscorp/x", ""},
		{"testing", "cache", "testing", "cache imports testing: only test support imports it"},
		{"testing in support", "store/storetest", "testing", ""},
		{"test support", "pack", Module + "/internal/treetest", "pack imports internal/treetest: that is test support"},
		{"test support in support", "mount/mounttest", Module + "/internal/treetest", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			got := Check([]Package{{ImportPath: Module + "/" + tt.pkg, Imports: []string{tt.imports}}})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Check(%s imports %s) (-want +got):\n%s", tt.pkg, tt.imports, diff)
			}
		})
	}
}
