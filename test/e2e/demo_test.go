package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// demo is the command of the demo over a small tree, with its temporary files in tmp.
func demo(ctx context.Context, t *testing.T, tmp string) *exec.Cmd {
	t.Helper()
	tree := filepath.Join(testenv.TempDir(t), "tree")
	if err := os.MkdirAll(filepath.Join(tree, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := treetest.Grow(tree, treetest.GrowOptions{Files: 500, Seed: 3, MaxFile: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "bin", "go"), []byte("#!/bin/sh\necho it runs\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "./demo.sh")
	cmd.Env = append(os.Environ(), "ZOSFS_BIN="+filepath.Join(binDir, "zosfs"), "DEMO_TREE="+tree, "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a terminal's job
	return cmd
}

// clean reports what is left in tmp, and mounts below it.
func clean(t *testing.T, tmp string) {
	t.Helper()
	left, err := os.ReadDir(tmp)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("the demo left %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), tmp) {
		t.Errorf("the demo left a mount in %s", tmp)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		env, err := os.ReadFile(p)
		if err == nil && bytes.Contains(env, []byte(tmp+"/")) {
			t.Errorf("the demo left a process: %s", p)
		}
	}
}

func TestDemo(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	tmp := testenv.TempDir(t)
	out, err := demo(t.Context(), t, tmp).CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	for _, want := range []string{"it runs", "share of the image fetched", "second version, sent"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo did not print %q:\n%s", want, out)
		}
	}
	clean(t, tmp)
}

// TestDemoInterrupted presses Ctrl-C at each step.
func TestDemoInterrupted(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	for _, step := range []string{"1. ", "3. ", "4. ", "6. "} {
		t.Run(step, func(t *testing.T) {
			tmp := testenv.TempDir(t)
			cmd := demo(t.Context(), t, tmp)
			said, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(said)
			for line := ""; !strings.Contains(line, step); {
				if line, err = lines.ReadString('\n'); err != nil {
					t.Fatalf("step %q did not come: %v", step, err)
				}
			}
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, lines); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() == 1 {
				t.Errorf("the demo ended with %v", err)
			}
			clean(t, tmp)
		})
	}
}

// TestKillPack kills a pack when it has sent some of its blobs, again and again. What is in
// the store then is never trusted without reason, and a pack that comes to its end is good.
func TestKillPack(t *testing.T) {
	work := testenv.TempDir(t)
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := treetest.Grow(tree, treetest.GrowOptions{Files: 3000, Seed: 5, MaxFile: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), node(work)...)
	store, out := filepath.Join(work, "store"), filepath.Join(work, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	zosfs := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "zosfs"), args...)
		cmd.Env = env
		return cmd
	}
	pack := []string{"pack", "--quiet", "--store", "file://" + store, tree, filepath.Join(out, "x.flist")}
	for want := 1; want <= 4; want++ {
		cmd := zosfs(pack...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for blobs := 0; blobs < want && len(ended) == 0; {
			found, err := filepath.Glob(filepath.Join(store, "blobs", "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			blobs = len(found)
		}
		_ = cmd.Process.Kill() // it may have ended by itself
		if err := <-ended; err != nil {
			left, err := os.ReadDir(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range left {
				if f.Name() == "x.flist" {
					t.Error("a killed pack left an flist")
				}
			}
		}
	}
	if msg, err := zosfs(pack...).CombinedOutput(); err != nil {
		t.Fatalf("pack: %v\n%s", err, msg)
	}
	if msg, err := zosfs("verify", "--deep", filepath.Join(out, "x.flist")).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, msg)
	}
	if msg, err := zosfs("unpack", "--quiet", filepath.Join(out, "x.flist"), filepath.Join(work, "copy")).CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v\n%s", err, msg)
	}
	treetest.Check(t, tree, filepath.Join(work, "copy"), treetest.CompareOptions{})
}
