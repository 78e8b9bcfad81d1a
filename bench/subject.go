package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// subject is one way to have a tree at a directory.
type subject struct {
	name string
	mode string // of ours; "" for others
	// fresh mounts the tree anew and returns its root; with cold, nothing of its content is
	// on this node. Subjects that have no such state get no cold.
	fresh   func(ctx context.Context, cold bool) (root string, err error)
	hasCold bool
	// memory returns what the process that serves it takes now and took at most; nil where
	// the kernel serves it.
	memory func() (now, peak int64)
	// close takes the mount away, and what it was made from.
	close func() error
}

// native is the tree itself.
func native(dir string) *subject {
	return &subject{
		name: fsName(dir), hasCold: true,
		fresh: func(context.Context, bool) (string, error) { return dir, nil },
		close: func() error { return nil },
	}
}

// ours mounts an image of the hub.
func ours(p *product, ref, mode string) *subject {
	m := p.machine("node-"+mode, mode)
	return &subject{
		name: "zosfs " + mode, mode: mode, hasCold: true,
		fresh: func(ctx context.Context, cold bool) (string, error) {
			if err := m.boot(ctx, cold); err != nil {
				return "", err
			}
			_, err := m.mount(ctx, p.hub+ref)
			return m.mountDir(), err
		},
		memory: func() (int64, int64) {
			if m.service == nil {
				return 0, 0
			}
			return memory(m.service.pid(), "VmRSS"), memory(m.service.pid(), "VmHWM")
		},
		close: m.stop,
	}
}

// peer is another program that makes an image of a tree and mounts it.
type peer struct {
	name    string
	program []string // that must be there
	pkg     string   // Debian package that brings them
	// pack returns the command that makes the image out of tree, in the empty directory dir.
	pack func(tree, dir string) []string
	// mount returns the command that mounts the image in dir at mnt. With serves, it runs as
	// long as the mount.
	mount     func(dir, mnt string) []string
	serves    bool
	needsRoot bool
	limit     bool // what the kernel can do at best; measured with every tree
}

var peers = []peer{
	{
		name: "erofs", program: []string{"mkfs.erofs"}, pkg: "erofs-utils", needsRoot: true, limit: true,
		pack:  func(tree, dir string) []string { return []string{"mkfs.erofs", "--quiet", dir + "/image", tree} },
		mount: mountErofs,
	},
	{
		name: "erofs-lz4", program: []string{"mkfs.erofs"}, pkg: "erofs-utils", needsRoot: true,
		pack: func(tree, dir string) []string {
			return []string{"mkfs.erofs", "--quiet", "-zlz4", dir + "/image", tree}
		},
		mount: mountErofs,
	},
	{
		name: "squashfs", program: []string{"mksquashfs"}, pkg: "squashfs-tools", needsRoot: true,
		pack: squash,
		mount: func(dir, mnt string) []string {
			return []string{"mount", "-t", "squashfs", "-o", "ro,loop", dir + "/image", mnt}
		},
	},
	{
		name: "squashfuse", program: []string{"mksquashfs", "squashfuse"}, pkg: "squashfuse", serves: true,
		pack:  squash,
		mount: func(dir, mnt string) []string { return []string{"squashfuse", "-f", dir + "/image", mnt} },
	},
	{
		name: "casync", program: []string{"casync"}, pkg: "casync", serves: true,
		pack: func(tree, dir string) []string {
			return []string{"casync", "make", "--store=" + dir + "/store.castr", dir + "/image.caidx", tree}
		},
		mount: func(dir, mnt string) []string {
			return []string{"casync", "mount", "--store=" + dir + "/store.castr", dir + "/image.caidx", mnt}
		},
	},
}

func mountErofs(dir, mnt string) []string {
	return []string{"mount", "-t", "erofs", "-o", "ro,loop", dir + "/image", mnt}
}

func squash(tree, dir string) []string {
	return []string{"mksquashfs", tree, dir + "/image", "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3"}
}

// allPeers names all peers, separated by commas.
func allPeers() string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return strings.Join(names, ",")
}

// installPeers returns those of the peers named that can be used, after installing what one
// command brings.
func installPeers(ctx context.Context, l *lab, names []string, rep *report) []peer {
	chosen := slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return !slices.Contains(names, p.name) })
	rep.note("desync is left out: no one command installs it (its go install fails, Debian has no package)")
	var missing []string
	for _, p := range chosen {
		if !p.here() {
			missing = append(missing, p.pkg)
		}
	}
	if len(missing) > 0 && l.root && have("apt-get") {
		l.say("install %v", missing)
		env := []string{"DEBIAN_FRONTEND=noninteractive"}
		_, err := l.run(ctx, command{args: []string{"apt-get", "-qq", "update"}, env: env})
		if err == nil {
			_, err = l.run(ctx, command{args: append([]string{"apt-get", "-qq", "install", "-y", "--no-install-recommends"}, missing...), env: env})
		}
		if err != nil {
			rep.note("peers could not be installed: %v", err)
		}
	}
	return slices.DeleteFunc(chosen, func(p peer) bool {
		switch {
		case !p.here():
			rep.note("%s is left out: not installed", p.name)
		case p.needsRoot && !l.root:
			rep.note("%s is left out: mounting it needs root", p.name)
		default:
			return false
		}
		return true
	})
}

func (p *peer) here() bool {
	return !slices.ContainsFunc(p.program, func(name string) bool { return !have(name) })
}

// image makes the image of a tree and returns the directory that it is in.
func (p *peer) image(ctx context.Context, l *lab, tree string) (dir string, _ outcome, err error) {
	if dir, err = l.mkdir("peer-" + p.name); err != nil {
		return "", outcome{}, err
	}
	out, err := l.run(ctx, command{args: p.pack(tree, dir)})
	return dir, out, err
}

// subject makes an image of tree and returns its mount.
func (p *peer) subject(ctx context.Context, l *lab, tree string) (*subject, error) {
	dir, _, err := p.image(ctx, l, tree)
	if err != nil {
		return nil, err
	}
	m := &peerMount{peer: p, lab: l, dir: dir, mnt: l.path("peer-"+p.name, "mnt")}
	if err := os.MkdirAll(m.mnt, 0o755); err != nil {
		return nil, err
	}
	return &subject{
		name: p.name, memory: m.memory,
		fresh: func(ctx context.Context, _ bool) (string, error) { return m.mnt, m.remount(ctx) },
		close: func() error {
			if err := m.umount(); err != nil {
				return err
			}
			return removeTree(dir)
		},
	}, nil
}

type peerMount struct {
	*peer
	lab      *lab
	dir, mnt string
	service  *service
}

func (m *peerMount) remount(ctx context.Context) error {
	if err := m.umount(); err != nil {
		return err
	}
	if !m.serves {
		_, err := m.lab.run(ctx, command{args: m.mount(m.dir, m.mnt)})
		return err
	}
	s, err := m.lab.start(m.name, command{args: m.mount(m.dir, m.mnt)}, nil)
	if err != nil {
		return err
	}
	m.service = s
	return s.await(ctx, func() bool { return len(mountsBelow(m.mnt)) > 0 })
}

func (m *peerMount) umount() error {
	for range mountsBelow(m.mnt) {
		if err := detach(m.mnt); err != nil {
			return fmt.Errorf("unmount %s: %w", m.name, err)
		}
	}
	if m.service == nil {
		return nil
	}
	err := m.service.stop()
	m.service = nil
	return err
}

func (m *peerMount) memory() (now, peak int64) {
	if m.service == nil {
		return 0, 0
	}
	return memory(m.service.pid(), "VmRSS"), memory(m.service.pid(), "VmHWM")
}
