package treetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

func (b *odd) xattrs() {
	d := b.mkdir("xattrs")
	for name, set := range map[string]map[string]string{
		"one":         {"user.a": "1"},
		"two":         {"user.a": "1", "user.b": "2"},
		"other-value": {"user.a": "2"},
		"empty-value": {"user.a": ""},
		"binary":      {"user.a": "\x00\xff\x00\n\x1b[0m"},
		"odd-names":   {"user.\xff\xfe": "not UTF-8", "user.new\nline": "", "user. ": " ", "user.a.b=c": ""},
		"long-name":   {"user." + strings.Repeat("n", 250): "255 bytes"},
		"long-value":  {"user.long": strings.Repeat("value ", 500)},
	} {
		b.text(d+name, name)
		for attr, value := range set {
			b.setxattr(d+name, attr, value)
		}
	}
	for i := range 20 { // a set shared by many
		name := fmt.Sprintf("%sshared-%02d", d, i)
		b.text(name, name)
		b.setxattr(name, "user.shared", "by twenty")
		b.setxattr(name, "user.mime", "text/plain")
	}
	b.text(d+"twenty", "twenty of them")
	for i := range 20 {
		b.setxattr(d+"twenty", fmt.Sprintf("user.attr-%02d", i), fmt.Sprint(i))
	}
	b.mkdir(d + "dir")
	b.setxattr(d+"dir", "user.dir", "of a directory")
	b.acls(d)
	if b.root {
		b.trusted(d)
	}
}

// trusted makes what root alone can set.
func (b *odd) trusted(d string) {
	b.text(d+"trusted", "")
	b.setxattr(d+"trusted", "trusted.a", "1")
	b.setxattr(d+"trusted", "user.a", "1")
	b.symlink(d+"symlink", "trusted")
	b.setxattr(d+"symlink", "trusted.symlink", "of a symlink")
	b.mknod(d+"device", unix.S_IFCHR|0o600, unix.Mkdev(1, 3))
	b.setxattr(d+"device", "trusted.device", "of a device")
	b.mknod(d+"fifo", unix.S_IFIFO|0o600, 0)
	b.setxattr(d+"fifo", "trusted.fifo", "of a fifo")

	const netRaw, netBind = 13, 10
	b.text(d+"capability", "#!/bin/true\n")
	b.chmod(d+"capability", 0o755)
	b.setxattr(d+"capability", "security.capability", capability(1<<netRaw, false))
	b.text(d+"capability-of-root-100000", "#!/bin/true\n")
	b.chmod(d+"capability-of-root-100000", 0o755)
	b.setxattr(d+"capability-of-root-100000", "security.capability", capability(1<<netBind, true))
}

// capability encodes struct vfs_cap_data, effective and permitted; as of revision 3 it
// belongs to the user namespace whose root is user 100000.
func capability(permitted uint32, namespaced bool) string {
	const revision2, revision3, effective = 0x02000000, 0x03000000, 1
	le := binary.LittleEndian
	if !namespaced {
		return string(append(le.AppendUint32(le.AppendUint32(nil, revision2|effective), permitted), make([]byte, 12)...))
	}
	p := append(le.AppendUint32(le.AppendUint32(nil, revision3|effective), permitted), make([]byte, 12)...)
	return string(le.AppendUint32(p, 100_000))
}

// acls makes POSIX access control lists, access and default.
func (b *odd) acls(d string) {
	const userObj, user, groupObj, group, mask, other, none = 1, 2, 4, 8, 16, 32, math.MaxUint32
	list := acl([3]uint32{userObj, 7, none}, [3]uint32{user, 5, 1000}, [3]uint32{groupObj, 5, none},
		[3]uint32{group, 6, 70_000}, [3]uint32{mask, 7, none}, [3]uint32{other, 4, none})
	b.text(d+"acl", "")
	b.setxattr(d+"acl", "system.posix_acl_access", list)
	b.mkdir(d + "acl-default")
	b.setxattr(d+"acl-default", "system.posix_acl_default", list)
	b.mkdir(d + "acl-both")
	b.setxattr(d+"acl-both", "system.posix_acl_access", list)
	b.setxattr(d+"acl-both", "system.posix_acl_default", acl([3]uint32{userObj, 7, none},
		[3]uint32{user, 0, math.MaxUint32 - 1}, [3]uint32{groupObj, 0, none}, [3]uint32{mask, 0, none}, [3]uint32{other, 0, none}))
}

// acl encodes entries of tag, permissions and id as the kernel's posix_acl_xattr.
func acl(entries ...[3]uint32) string {
	le := binary.LittleEndian
	p := le.AppendUint32(nil, 2)
	for _, e := range entries {
		p = le.AppendUint16(p, uint16(e[0]))
		p = le.AppendUint16(p, uint16(e[1]))
		p = le.AppendUint32(p, e[2])
	}
	return string(p)
}

// clocks makes files with odd times, all within what ext4 and 64 bits of nanoseconds hold.
func (b *odd) clocks() {
	d := b.mkdir("times")
	for name, ts := range map[string]unix.Timespec{
		"epoch":         {Sec: 0, Nsec: 0},
		"nanosecond":    {Sec: 0, Nsec: 1},
		"before-epoch":  {Sec: -1, Nsec: 999_999_999},
		"1969":          {Sec: -86_400, Nsec: 500_000_000},
		"1901":          {Sec: math.MinInt32, Nsec: 0},
		"2038":          {Sec: math.MaxInt32, Nsec: 999_999_999},
		"after-2038":    {Sec: math.MaxInt32 + 1, Nsec: 0},
		"after-2106":    {Sec: math.MaxUint32 + 1, Nsec: 123_456_789},
		"last-of-int64": {Sec: math.MaxInt64 / 1_000_000_000, Nsec: math.MaxInt64 % 1_000_000_000},
	} {
		b.text(d+name, name)
		b.times[d+name] = ts
	}
	b.mkdir(d + "dir")
	b.times[d+"dir"] = unix.Timespec{Sec: -1_000_000, Nsec: 1}
	b.symlink(d+"symlink", "epoch")
	b.times[d+"symlink"] = unix.Timespec{Sec: 5_000_000_000, Nsec: 5}
}

// setTimes gives every name its mtime: its own, or one that its place in the tree decides.
func (b *odd) setTimes() {
	n := int64(0)
	b.must(eachName(b.dir, func(dirfd int, name, path string) error {
		n++
		ts, ok := b.times[path]
		if !ok {
			ts = unix.Timespec{Sec: 1_600_000_000 + n*3600, Nsec: n * 1_234_567 % 1_000_000_000}
		}
		return unix.UtimesNanoAt(dirfd, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}))
	ts := unix.Timespec{Sec: 1_500_000_000, Nsec: 1}
	b.must(unix.UtimesNanoAt(unix.AT_FDCWD, b.dir, []unix.Timespec{ts, ts}, 0))
}
