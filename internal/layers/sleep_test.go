package layers

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// TestSleepsOfProject applies the rule to the project.
func TestSleepsOfProject(t *testing.T) {
	found, err := Sleeps(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range found {
		t.Error(line)
	}
}

func TestSleeps(t *testing.T) {
	file := func(src string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(src)} }
	tree := fstest.MapFS{
		"a/a_test.go":          file("package a\n\nimport \"time\"\n\nfunc f() {\n\ttime.Sleep(time.Second)\n}\n"),
		"a/bubble_test.go":     file("package a\n\nimport (\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { time.Sleep(1) }\n"),
		"a/awake_test.go":      file("package a\n\nimport \"time\"\n\nfunc f() { time.Now() }\n"),
		"a/a.go":               file("package a\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"),
		"a/testdata/x_test.go": file("not Go"),
		".git/x_test.go":       file("not Go"),
	}
	got, err := Sleeps(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a/a_test.go:6:2: a test sleeps: wait for events or use testing/synctest"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Sleeps (-want +got):\n%s", diff)
	}
}
