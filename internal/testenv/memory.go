package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A MemoryGroup is a control group whose processes, and the page cache that they fill, share a
// limit of memory.
type MemoryGroup struct {
	dir                            string
	limit, peak, events, killEvent string // names of its files, and of the count of kills
}

// NeedMemoryGroup needs the power to limit the memory of processes, through the memory
// controller of either version of control groups. It returns an empty group, below that of this
// process, with a limit in bytes. At the end of the test it is removed; no process may be in it
// by then.
func NeedMemoryGroup(t testing.TB, limit int64) *MemoryGroup {
	t.Helper()
	g, err := newMemoryGroup(limit)
	need(t, "memory", err)
	t.Cleanup(func() {
		if err := os.Remove(g.dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return g
}

func newMemoryGroup(limit int64) (*MemoryGroup, error) {
	g, err := memoryController()
	if err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp(g.dir, "zosfs-test-"); err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, g.limit), strconv.AppendInt(nil, limit, 10), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("limit the memory of a control group: %w", err), os.Remove(g.dir))
	}
	return g, nil
}

// memoryController returns the group of this process under the memory controller.
func memoryController() (*MemoryGroup, error) {
	// The place of a hierarchy is in the mount table, that of the process below it in cgroup
	// (cgroups(7)).
	groups, err := fields("/proc/self/cgroup", ":")
	if err != nil {
		return nil, err
	}
	mounts, err := fields("/proc/self/mounts", " ")
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if len(m) < 4 {
			continue
		}
		for _, g := range groups {
			switch {
			case len(g) != 3:
			case m[2] == "cgroup" && g[1] == "memory" && strings.Contains(","+m[3]+",", ",memory,"):
				return &MemoryGroup{m[1] + g[2], "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "oom_kill"}, nil
			case m[2] == "cgroup2" && g[1] == "" && hasMemory(m[1]+g[2]):
				return &MemoryGroup{m[1] + g[2], "memory.max", "memory.peak", "memory.events", "oom_kill"}, nil
			}
		}
	}
	return nil, errors.New("no memory controller of control groups for this process")
}

// hasMemory reports whether groups in dir have a memory controller; it is turned on where that
// can be done.
func hasMemory(dir string) bool {
	p, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	return err == nil && strings.Contains(" "+strings.TrimSpace(string(p))+" ", " memory ") &&
		os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0) == nil
}

func fields(path, separator string) ([][]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all [][]string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		all = append(all, strings.Split(lines.Text(), separator))
	}
	return all, lines.Err()
}

// Procs returns the path of the file that a process writes "0" to, to enter the group.
func (g *MemoryGroup) Procs() string { return filepath.Join(g.dir, "cgroup.procs") }

// Peak returns the most memory that the group has had, in bytes.
func (g *MemoryGroup) Peak() (int64, error) {
	p, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(p)), 10, 64)
}

// Kills returns how many processes of the group were killed for lack of memory.
func (g *MemoryGroup) Kills() (int, error) {
	lines, err := fields(filepath.Join(g.dir, g.events), " ")
	if err != nil {
		return 0, err
	}
	for _, l := range lines {
		if len(l) == 2 && l[0] == g.killEvent {
			return strconv.Atoi(l[1])
		}
	}
	return 0, fmt.Errorf("%s does not count %s", g.events, g.killEvent)
}
