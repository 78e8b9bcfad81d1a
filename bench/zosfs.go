package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/node"
	"github.com/zosfs/zosfs/pack"
)

// product is the program under measurement, used through its command line alone.
type product struct {
	*lab
	bin string
	hub string   // URL, once startHub was called
	env []string // what makes this run private, and the token of the hub
}

func newProduct(l *lab, bin string) (*product, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	return &product{lab: l, bin: bin, env: []string{
		"ZOSFS_CACHE=" + l.path("publisher", "cache"), "ZOSFS_STATE=" + l.path("publisher", "state"),
		"ZOSFS_CREDENTIALS=" + l.path("credentials.json"), "ZOSFS_TOKEN=", "ZOSFS_HUB=",
	}}, nil
}

// startHub starts a hub with an empty directory.
func (p *product) startHub(ctx context.Context) error {
	said, err := os.Create(p.path("hub.json"))
	if err != nil {
		return err
	}
	defer said.Close()
	s, err := p.start("hub", command{args: []string{p.bin, "--json", "hub", "serve", "--data", p.path("hub"), "--listen", "127.0.0.1:0"}, env: p.env}, said)
	if err != nil {
		return err
	}
	var hub struct{ URL string }
	err = s.await(ctx, func() bool {
		line, err := os.ReadFile(said.Name())
		return err == nil && json.Unmarshal(line, &hub) == nil
	})
	if err != nil {
		return err
	}
	token, err := p.run(ctx, command{args: []string{p.bin, "hub", "token", "--data", p.path("hub"), "--user", "bench"}, env: p.env})
	if err != nil {
		return err
	}
	p.hub = hub.URL
	p.env = append(p.env, "ZOSFS_HUB="+p.hub, "ZOSFS_TOKEN="+strings.TrimSpace(string(token.stdout)))
	return nil
}

// call runs a command with --json and decodes its answer.
func (p *product) call(ctx context.Context, env []string, answer any, args ...string) (outcome, error) {
	out, err := p.run(ctx, command{args: append([]string{p.bin, "--json"}, args...), env: append(p.env[:len(p.env):len(p.env)], env...)})
	if err == nil && answer != nil {
		err = json.Unmarshal(out.stdout, answer)
	}
	return out, err
}

// packed is the outcome of a pack.
type packed struct {
	pack.Result
	outcome
}

func (p *product) pack(ctx context.Context, args ...string) (r packed, err error) {
	r.outcome, err = p.call(ctx, nil, &r.Result, append([]string{"pack"}, args...)...)
	return r, err
}

// publish packs a tree to the hub, for everybody to read, and returns the path of the image
// there.
func (p *product) publish(ctx context.Context, tree, name string) (string, error) {
	ref := "/bench/" + name + ":1"
	_, err := p.pack(ctx, "--public", tree, p.hub+ref)
	return ref, err
}

// machine is a node of its own: directories, a node service and at most one mount.
type machine struct {
	*product
	name    string
	mode    string // fuse or kernel
	service *service
	mounted bool
}

func (p *product) machine(name, mode string) *machine {
	m := &machine{product: p, name: name, mode: mode}
	p.later(m.stop)
	return m
}

func (m *machine) cacheDir() string { return m.path(m.name, "cache") }
func (m *machine) mountDir() string { return m.path(m.name, "mnt") }
func (m *machine) nodeEnv() []string {
	return []string{"ZOSFS_CACHE=" + m.cacheDir(), "ZOSFS_STATE=" + m.path(m.name, "state")}
}

// boot starts the node service; fresh empties its cache before.
func (m *machine) boot(ctx context.Context, fresh bool) error {
	if err := m.stop(); err != nil {
		return err
	}
	if fresh {
		if err := os.RemoveAll(m.cacheDir()); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(m.mountDir(), 0o755); err != nil {
		return err
	}
	env := append(m.env[:len(m.env):len(m.env)], m.nodeEnv()...)
	s, err := m.start(m.name, command{args: []string{m.bin, "node", "--cache-size", "40G"}, env: env}, nil)
	if err != nil {
		return err
	}
	m.service = s
	return s.await(ctx, func() bool {
		var st struct{ Running bool }
		_, err := m.call(ctx, m.nodeEnv(), &st, "status")
		return err == nil && st.Running
	})
}

// mount mounts ref; the outcome has the time that took.
func (m *machine) mount(ctx context.Context, ref string) (outcome, error) {
	out, err := m.call(ctx, m.nodeEnv(), nil, "mount", "--mode", m.mode, ref, m.mountDir())
	m.mounted = err == nil
	return out, err
}

func (m *machine) umount(ctx context.Context) error {
	if !m.mounted {
		return nil
	}
	_, err := m.call(ctx, m.nodeEnv(), nil, "umount", m.mountDir())
	m.mounted = err != nil
	return err
}

// stop unmounts and ends the node service, if it runs.
func (m *machine) stop() error {
	if m.service == nil {
		return nil
	}
	err := m.service.stop()
	m.service, m.mounted = nil, false
	return err
}

// stats tells what the mount read and fetched so far.
func (m *machine) stats(ctx context.Context) (image.Stats, error) {
	var st node.Status
	_, err := m.call(ctx, m.nodeEnv(), &st, "status")
	if err == nil && len(st.Mounts) != 1 {
		err = fmt.Errorf("%d mounts, want one", len(st.Mounts))
	}
	if err != nil {
		return image.Stats{}, err
	}
	return st.Mounts[0].Image, nil
}

// flist opens the flist that the node fetched. There must be one.
func (m *machine) flist() (*flist.Reader, error) {
	found, err := filepath.Glob(filepath.Join(m.cacheDir(), "flists", "*.flist"))
	if err != nil || len(found) != 1 {
		return nil, errors.Join(fmt.Errorf("%d flists in the cache, want one", len(found)), err)
	}
	return flist.Open(found[0], flist.OpenOptions{})
}

// modes returns the modes of mounting that work here, trying each.
func (p *product) modes(ctx context.Context, ref string, want []string, rep *report) ([]string, error) {
	var work []string
	for _, mode := range want {
		m := p.machine("probe-"+mode, mode)
		err := m.boot(ctx, true)
		if err == nil {
			_, err = m.mount(ctx, ref)
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			rep.note("mode %s is left out: %v", mode, err)
		default:
			work = append(work, mode)
		}
		if err := m.stop(); err != nil {
			return nil, err
		}
	}
	if len(work) == 0 {
		return nil, errors.New("no mode of mounting works here")
	}
	return work, nil
}
