package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/zosfs/zosfs/internal/atomicfile"
)

// options are the command line.
type options struct {
	quick    bool
	only     string
	reps     int
	json     bool
	out      string
	dir      string
	bin      string
	debian   string
	modes    string
	peers    string
	trees    string
	files    int
	big      int64 // bytes
	link     int64 // bytes
	entries  []int
	line     line
	rateMbit float64
}

// sections in the order in which they run.
var sections = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"read", (*bench).reads},
	{"pack", (*bench).packing},
	{"versions", (*bench).versions},
	{"mount", (*bench).mounting},
	{"trace", (*bench).tracing},
	{"link", (*bench).linking},
}

// bench is one run.
type bench struct {
	options
	lab     *lab
	product *product
	trees   trees
	peers   []peer
	modes   []string
	rep     *report
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		if ctx.Err() != nil {
			os.Exit(130)
		}
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.quick, "quick", false, "smaller trees: a few minutes")
	f.StringVar(&o.only, "only", "", "only these sections, separated by commas: "+strings.Join(names, ", "))
	f.IntVar(&o.reps, "n", 3, "repetitions of each measurement")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.out, "o", "", "also write bench/results/`NAME`.txt")
	f.StringVar(&o.dir, "dir", "", "where the trees are made; on the file system to compare with (default a temporary directory on a disk)")
	f.StringVar(&o.bin, "zosfs", "bin/zosfs", "the program")
	f.StringVar(&o.debian, "debian", "", "a Debian root to take instead of one from debootstrap")
	f.StringVar(&o.modes, "modes", "kernel,fuse", "modes of mounting; those that do not work are left out")
	f.StringVar(&o.peers, "peers", allPeers(), "other programs to measure too, separated by commas; installed where one command does")
	f.StringVar(&o.trees, "trees", "debian,go,grown,big", "trees of section read, separated by commas")
	f.IntVar(&o.files, "files", 0, "files of the generated tree (default 25,000, quick 8,000)")
	big := f.Int64("big", 0, "MiB of the big file (default 1024, quick 256)")
	f.Float64Var(&o.rateMbit, "rate", 20, "Mbit/s of the slow link")
	f.DurationVar(&o.line.delay, "delay", 50*time.Millisecond, "round trip of the slow link")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.big = *big << 20
	o.line.rate = o.rateMbit * 1e6 / 8
	o.sizes()
	for _, name := range split(o.only) {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("no section %q", name)
		}
	}
	if o.reps < 1 || f.NArg() > 0 {
		return o, errors.New("want at least one repetition, and no arguments")
	}
	return o, nil
}

// sizes fills in what was not given.
func (o *options) sizes() {
	files, big := 25_000, int64(1<<30)
	o.entries, o.link = []int{1_000, nodeMemoryEntries, 1_000_000}, 16<<20
	if o.quick {
		files, big = 8_000, 256<<20
		o.entries, o.link = []int{1_000, nodeMemoryEntries}, 8<<20
	}
	if o.files <= 0 {
		o.files = files
	}
	if o.big <= 0 {
		o.big = big
	}
}

func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

// run does all that was asked for and prints the outcome.
func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	l, err := newLab(o.dir, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	b := &bench{options: o, lab: l, trees: newTrees(l, o), rep: &report{Notes: []string{}, Failed: []string{}}}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, s := range sections {
		if o.only != "" && !slices.Contains(split(o.only), s.name) {
			continue
		}
		err := s.run(b, ctx)
		if ctx.Err() != nil {
			b.rep.fail("section %s: interrupted", s.name)
			break
		}
		if err != nil {
			b.rep.fail("section %s: %v", s.name, err)
		}
	}
	return errors.Join(ctx.Err(), b.finish(stdout))
}

// prepare starts what all sections share.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.product, err = newProduct(b.lab, b.bin); err != nil {
		return err
	}
	version, err := b.lab.run(ctx, command{args: []string{b.product.bin, "--version"}})
	if err != nil {
		return fmt.Errorf("%w (make build builds it)", err)
	}
	b.rep.Machine = describe(b.lab.dir, strings.TrimSpace(string(version.stdout)))
	if !b.lab.root {
		b.rep.note("not root: the page cache cannot be dropped, so cold and first touch are left out")
	}
	if err := b.product.startHub(ctx); err != nil {
		return fmt.Errorf("start a hub: %w", err)
	}
	if err := b.probe(ctx); err != nil {
		return err
	}
	if b.options.peers != "" {
		b.peers = installPeers(ctx, b.lab, split(b.options.peers), b.rep)
	}
	return ctx.Err()
}

// probe finds the modes of mounting that work.
func (b *bench) probe(ctx context.Context) error {
	dir, err := b.lab.mkdir("trees", "probe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("probe"), 0o644); err != nil {
		return err
	}
	ref, err := b.product.publish(ctx, dir, "probe")
	if err != nil {
		return err
	}
	b.modes, err = b.product.modes(ctx, b.product.hub+ref, split(b.options.modes), b.rep)
	return err
}

// finish prints the report; what failed makes the run fail.
func (b *bench) finish(stdout io.Writer) error {
	var err error
	if b.json {
		err = b.rep.writeJSON(stdout)
	} else {
		_, err = io.WriteString(stdout, b.rep.text())
	}
	if b.out != "" {
		path := filepath.Join("bench", "results", filepath.Base(b.out)+".txt")
		err = errors.Join(err, atomicfile.WriteFile(path, []byte(b.rep.text()), 0o644))
	}
	if n := len(b.rep.Failed); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d measurements failed", n))
	}
	return err
}
