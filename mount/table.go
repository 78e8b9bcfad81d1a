package mount

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
)

// Info is a mount of ours in the mount table.
type Info struct {
	Dir    string `json:"dir"`    // absolute, without symlinks
	Source string `json:"source"` // as [Options.Source] at the time
	Mode   Mode   `json:"mode"`
}

// List returns the mounts that zosfs made in this mount namespace, in the order of the mount
// table; one that others are mounted over is among them.
func List() ([]Info, error) {
	table, err := readTable()
	if err != nil {
		return nil, err
	}
	var list []Info
	for _, e := range table {
		if mode, ok := e.mode(); ok {
			list = append(list, Info{Dir: e.dir, Source: e.source, Mode: mode})
		}
	}
	return list, nil
}

// Holds returns the mount of ours that the file or directory path lies on; the zero Info if it
// lies on none.
func Holds(path string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Info{}, err
	}
	table, err := readTable()
	if err != nil {
		return Info{}, err
	}
	for _, e := range table {
		if mode, ok := e.mode(); ok && e.dev == st.Dev {
			return Info{Dir: e.dir, Source: e.source, Mode: mode}, nil
		}
	}
	return Info{}, nil
}

// An entry is one line of the mount table.
type entry struct {
	dir    string
	dev    uint64 // st_dev
	fstype string
	source string
}

// mode tells the mode of a mount of ours.
func (e entry) mode() (Mode, bool) {
	if _, ok := kernel.IsImage(e.fstype, e.source); ok {
		return Kernel, true
	}
	if e.fstype == "erofs" && loopOfOurs(e.source) {
		return Kernel, true
	}
	return FUSE, e.fstype == "fuse."+fusefs.Subtype
}

// loopOfOurs reports whether source is a loop device over a metadata image.
func loopOfOurs(source string) bool {
	name, ok := strings.CutPrefix(source, "/dev/loop")
	if !ok || strings.ContainsAny(name, "/.") {
		return false
	}
	back, err := os.ReadFile("/sys/block/loop" + name + "/loop/backing_file")
	if err != nil {
		return false
	}
	_, ok = kernel.IsImage("erofs", strings.TrimSuffix(string(back), "\n"))
	return ok
}

// topAt returns what is mounted at dir, the last of several.
func topAt(table []entry, dir string) (entry, bool) {
	var top entry
	found := false
	for _, e := range table {
		if e.dir == dir {
			top, found = e, true
		}
	}
	return top, found
}

func readTable() ([]entry, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("mount table: %w", err)
	}
	table, err := parseTable(f)
	return table, errors.Join(err, f.Close())
}

// parseTable reads lines such as these (proc_pid_mountinfo(5)); after the options come any
// number of tags, and then a hyphen:
//
//	36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw,errors=continue
func parseTable(r io.Reader) ([]entry, error) {
	var table []entry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // overlays have long options
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		before, after := strings.Fields(left), strings.Split(right, " ")
		if !ok || len(before) < 6 || len(after) < 2 {
			return nil, fmt.Errorf("mount table: cannot read line %q", lines.Text())
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(before[2], "%d:%d", &major, &minor); err != nil {
			return nil, fmt.Errorf("mount table: cannot read line %q", lines.Text())
		}
		table = append(table, entry{
			dir:    unescape(before[4]),
			dev:    unix.Mkdev(major, minor),
			fstype: unescape(after[0]),
			source: unescape(after[1]),
		})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("mount table: %w", err)
	}
	return table, nil
}

// unescape undoes the kernel's \ooo for blanks, backslashes and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1:i+4]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(s string) bool {
	return strings.Trim(s, "01234567") == "" && s[0] <= '3'
}
