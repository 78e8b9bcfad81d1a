package mount

import (
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Holds returns the mount of ours that the file or directory path lies on, be it directly or as a
// layer of an overlay; the zero Info if it lies on none. Layers that cannot be reached from here,
// as of another mount namespace, are passed over.
func Holds(path string) (Info, error) {
	table, err := readTable()
	if err != nil {
		return Info{}, err
	}
	return holds(table, path, map[uint64]bool{})
}

// holds is Holds; seen has the overlays that were looked into.
func holds(table []entry, path string, seen map[uint64]bool) (Info, error) {
	on, err := mountOf(path)
	if err != nil {
		return Info{}, err
	}
	for _, e := range table {
		if !on(e) {
			continue
		}
		if info, ok := e.info(); ok {
			return info, nil
		}
		if e.fstype != "overlay" || seen[e.id] {
			continue
		}
		seen[e.id] = true
		for _, layer := range layers(e.options) {
			if info, err := holds(table, layer, seen); err == nil && info.Dir != "" {
				return info, nil
			}
		}
	}
	return Info{}, nil
}

// mountOf returns what tells the mount that path lies on from others, without asking its server.
func mountOf(path string) (func(entry) bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return nil, err
	}
	if st.Mask&unix.STATX_MNT_ID != 0 {
		return func(e entry) bool { return e.id == st.Mnt_id }, nil
	}
	dev := unix.Mkdev(st.Dev_major, st.Dev_minor) // before Linux 5.8
	return func(e entry) bool { return e.dev == dev }, nil
}

// layers returns the directories of an overlay with these options, as the mount table shows them,
// as far as they are absolute paths.
func layers(options string) []string {
	var dirs []string
	for option := range strings.SplitSeq(options, ",") { // a comma in a path is shown as \054
		name, value, _ := strings.Cut(option, "=")
		value = unescape(value)
		switch name {
		case "lowerdir":
			dirs = append(dirs, splitLayers(value)...)
		case "lowerdir+", "datadir+", "upperdir":
			dirs = append(dirs, value)
		}
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return !filepath.IsAbs(dir) })
}

// splitLayers splits at colons, but not where a backslash says that they belong to a path.
func splitLayers(s string) []string {
	var dirs []string
	var dir strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			dir.WriteByte(s[i])
		case s[i] == ':':
			dirs = append(dirs, dir.String())
			dir.Reset()
		default:
			dir.WriteByte(s[i])
		}
	}
	return append(dirs, dir.String())
}
