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
	// In mode Kernel: the file of the metadata image, by the name that it was mounted with or, through
	// a loop device, without symlinks; and the st_dev of the file system.
	Image string `json:"image,omitempty"`
	Dev   uint64 `json:"-"`
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
		if info, ok := e.info(); ok {
			list = append(list, info)
		}
	}
	return list, nil
}

// Where returns the directory at which the mount with this number and the st_dev dev is, wherever
// it was moved since it was made; false if it is not there any more.
func Where(id, dev uint64) (string, bool) {
	table, err := readTable()
	if err != nil {
		return "", false
	}
	for _, e := range table {
		if e.id == id && e.dev == dev {
			return e.dir, true
		}
	}
	return "", false
}

// An entry is one line of the mount table.
type entry struct {
	id      uint64 // of the mount
	dir     string
	dev     uint64 // st_dev
	fstype  string
	source  string
	options string // of the file system, as the table shows them
}

// info tells of a mount of ours.
func (e entry) info() (Info, bool) {
	if e.fstype == "fuse."+fusefs.Subtype {
		return Info{Dir: e.dir, Source: e.source, Mode: FUSE}, true
	}
	image := e.source
	if back, ok := loopFile(e.source); ok && e.fstype == "erofs" {
		image = back
	}
	if _, ok := kernel.IsImage(e.fstype, image); !ok {
		return Info{}, false
	}
	return Info{Dir: e.dir, Source: e.source, Mode: Kernel, Image: image, Dev: e.dev}, true
}

// mode tells the mode of a mount of ours.
func (e entry) mode() (Mode, bool) {
	info, ok := e.info()
	return info.Mode, ok
}

// loopFile returns the file under the loop device source, which may be gone.
func loopFile(source string) (string, bool) {
	name, ok := strings.CutPrefix(source, "/dev/loop")
	if !ok || strings.ContainsAny(name, "/.") {
		return "", false
	}
	back, err := os.ReadFile("/sys/block/loop" + name + "/loop/backing_file")
	return strings.TrimSuffix(strings.TrimSuffix(string(back), "\n"), " (deleted)"), err == nil
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
		var id uint64
		var major, minor uint32
		if _, err := fmt.Sscanf(before[0]+" "+before[2], "%d %d:%d", &id, &major, &minor); err != nil {
			return nil, fmt.Errorf("mount table: cannot read line %q", lines.Text())
		}
		table = append(table, entry{
			id:      id,
			dir:     unescape(before[4]),
			dev:     unix.Mkdev(major, minor),
			fstype:  unescape(after[0]),
			source:  unescape(after[1]),
			options: strings.Join(after[2:], " "),
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
