// Package e2e_test runs scripts against the built binary, as a user would.
package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// binDir holds the binary under test.
var binDir string

func TestMain(m *testing.M) {
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (_ int, err error) {
	if binDir, err = os.MkdirTemp("", "zosfs-e2e-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(binDir)) }()
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(binDir, "zosfs"), "../../cmd/zosfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// TestScripts runs what any user can do.
func TestScripts(t *testing.T) { scripts(t, "testdata/script") }

// TestMountScripts runs what needs a mount.
func TestMountScripts(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	scripts(t, "testdata/mount")
}

// scripts runs the scripts of a directory. $ODD is the tree with every oddity; it must not
// be changed.
func scripts(t *testing.T, dir string) {
	work := testenv.TempDir(t)
	odd := filepath.Join(work, "odd")
	if err := os.Mkdir(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Odd(t, odd, treetest.Options{})
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		WorkdirRoot:         work,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ODD", odd)
			return setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"grow": grow, "mutate": mutate, "same": same, "hub": hub, "capture": capture, "atmost": atMost, "damage": damage,
			"code": code,
		},
	})
}

// node is the environment of a script's own node.
func node(work string) []string {
	return []string{
		"HOME=" + work,
		"PATH=" + binDir + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"ZOSFS_CACHE=" + filepath.Join(work, ".cache"),
		"ZOSFS_STATE=" + filepath.Join(work, ".state"),
		"ZOSFS_CREDENTIALS=" + filepath.Join(work, ".credentials.json"),
	}
}

// setup gives each script a node and credentials of its own, and ends what it leaves.
func setup(env *testscript.Env) error {
	env.Vars = append(env.Vars, node(env.WorkDir)...)
	zosfs := func(args ...string) {
		cmd := exec.CommandContext(context.Background(), filepath.Join(binDir, "zosfs"), args...)
		cmd.Env = append(os.Environ(), node(env.WorkDir)...)
		_ = cmd.Run() // what is to be ended may have ended
	}
	env.Defer(func() {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			panic(err)
		}
		for line := range strings.Lines(string(mounts)) {
			f := strings.Fields(line)
			if strings.HasPrefix(f[1], env.WorkDir+"/") && !strings.HasPrefix(f[1], filepath.Join(env.WorkDir, ".state")+"/") {
				zosfs("umount", "--lazy", f[1])
			}
		}
		zosfs("node", "stop")
	})
	return nil
}

// grow makes a realistic tree: grow DIR FILES SEED.
func grow(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 3)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	_, err := treetest.Grow(dir, treetest.GrowOptions{Files: number(ts, args[1]), Seed: uint64(number(ts, args[2])), MaxFile: 4 << 20})
	ts.Check(err)
}

// mutate changes a share of a tree: mutate DIR PERCENT SEED.
func mutate(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 3)
	_, err := treetest.Mutate(ts.MkAbs(args[0]), float64(number(ts, args[1])), uint64(number(ts, args[2])))
	ts.Check(err)
}

// zeros is the file of the odd tree that has data of zeros alone; packing makes that a hole.
const zeros = "sparse/zeros-that-are-data"

// same compares every field of every entry, and all content, of two trees.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same DIR DIR")
	}
	diffs, err := treetest.Compare(ts.MkAbs(args[0]), ts.MkAbs(args[1]), treetest.CompareOptions{})
	ts.Check(err)
	diffs = slices.DeleteFunc(diffs, func(d treetest.Diff) bool { return d.Path == zeros && d.Field == "holes" })
	if neg == (len(diffs) == 0) {
		ts.Fatalf("%d differences, such as %v", len(diffs), diffs[:min(len(diffs), 10)])
	}
}

// hub starts a hub that runs until the script ends, and puts its URL into $HUB: hub DIR
// [ADDRESS]. "hub -kill" ends it at once.
func hub(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: hub DIR [ADDRESS] | hub -kill")
	}
	if args[0] == "-kill" {
		running, ok := hubs.LoadAndDelete(ts.Name())
		if !ok {
			ts.Fatalf("no hub runs")
		}
		ts.Check(kill(running.(*exec.Cmd)))
		return
	}
	cmd := exec.CommandContext(context.Background(), filepath.Join(binDir, "zosfs"), "--json", "hub", "serve", "--data", ts.MkAbs(args[0]), "--listen", append(args[1:], "127.0.0.1:0")[0])
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	hubs.Store(ts.Name(), cmd)
	ts.Defer(func() {
		if _, ok := hubs.LoadAndDelete(ts.Name()); ok {
			_ = kill(cmd)
		}
	})
	var said struct{ URL string }
	ts.Check(json.NewDecoder(out).Decode(&said))
	ts.Setenv("HUB", said.URL)
	ts.Setenv("HUBADDR", strings.TrimPrefix(said.URL, "http://"))
}

// hubs are the running hubs by the name of their script.
var hubs sync.Map

func kill(cmd *exec.Cmd) error {
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // that it was killed is no news
	return nil
}

// capture puts the first match of a pattern's group in the last stdout into a variable.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 2)
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("no match for %s in stdout", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// atMost compares two numbers: atmost A B.
func atMost(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: atmost A B")
	}
	if a, b := number(ts, args[0]), number(ts, args[1]); (a <= b) == neg {
		ts.Fatalf("%d against %d", a, b)
	}
}

// code runs a program that must end with an exit code: code CODE PROGRAM [ARGUMENT...].
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code CODE PROGRAM [ARGUMENT...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != number(ts, args[0]) {
		ts.Fatalf("exit code %d, want %s; stderr:\n%s", got, args[0], ts.ReadFile("stderr"))
	}
}

// damage changes one byte in the middle of each file that a pattern names.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	check(ts, neg, args, 1)
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file matches %s", args[0])
	}
	for _, name := range files {
		p, err := os.ReadFile(name)
		ts.Check(err)
		p[len(p)/2] ^= 0xff
		ts.Check(os.Chmod(name, 0o600))
		ts.Check(os.WriteFile(name, p, 0o600))
	}
}

func check(ts *testscript.TestScript, neg bool, args []string, n int) {
	if neg || len(args) != n {
		ts.Fatalf("want %d arguments and no !", n)
	}
}

func number(ts *testscript.TestScript, s string) int {
	var n int
	if _, err := fmt.Sscan(s, &n); err != nil {
		ts.Fatalf("%q is no number", s)
	}
	return n
}
