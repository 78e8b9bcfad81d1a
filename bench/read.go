package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// state is what is where when a tree is read; see the package comment.
type state int

const (
	cold state = iota
	firstTouch
	warm
	states
)

func (s state) String() string { return [states]string{"cold", "first touch", "warm"}[s] }

// workload is one thing to do with a tree. run returns the time that counts.
type workload struct {
	name string
	meta bool // names and attributes alone
	only state
	unit unit // of what is shown; rate is ops through time
	ops  func(state) int
	run  func(ctx context.Context, root string, s state) (time.Duration, error)
}

// always, as workload.only, is all states.
const always = states

// workloads returns what is done with each tree. dir is where it is natively.
func (b *bench) workloads(t *tree, dir string) ([]workload, error) {
	file := func(root string) string { return filepath.Join(root, bigName) }
	simple := func(f func(context.Context, *lab, string) (time.Duration, error)) func(context.Context, string, state) (time.Duration, error) {
		return func(ctx context.Context, root string, _ state) (time.Duration, error) { return f(ctx, b.lab, root) }
	}
	walk := workload{name: "walk + stat", meta: true, only: always, unit: seconds, run: simple(walkStat)}
	archive := workload{name: "tar", only: always, unit: seconds, run: simple(tar)}
	switch t {
	case b.trees.debian:
		return []workload{walk, archive}, nil
	case b.trees.toolchain:
		return []workload{archive, {name: "mmap + exec, go version x50", only: always, unit: seconds, run: simple(goVersion)}}, nil
	case b.trees.big:
		ops := func(s state) int {
			if s == warm {
				return 200_000
			}
			return 2_000
		}
		return []workload{
			{name: "sequential read", only: always, unit: seconds, run: func(ctx context.Context, root string, _ state) (time.Duration, error) {
				return readWhole(ctx, file(root))
			}},
			{name: "mmap, touch each page", only: always, unit: seconds, run: func(ctx context.Context, root string, _ state) (time.Duration, error) {
				return touchMapped(ctx, file(root))
			}},
			{name: "random 4 KiB reads", only: always, unit: rate, ops: ops, run: func(ctx context.Context, root string, s state) (time.Duration, error) {
				return readRandom(ctx, file(root), ops(s))
			}},
		}, nil
	}
	names, err := smallFiles(dir, 20_000)
	if err != nil {
		return nil, err
	}
	named := func(f func(context.Context, string, []string) (time.Duration, error)) func(context.Context, string, state) (time.Duration, error) {
		return func(ctx context.Context, root string, _ state) (time.Duration, error) { return f(ctx, root, names) }
	}
	return []workload{
		walk,
		{name: "du", meta: true, only: always, unit: seconds, run: simple(du)},
		{name: "listxattr", meta: true, only: always, unit: seconds, run: simple(listXattrs)},
		archive,
		{name: fmt.Sprintf("open + read + close x%d", len(names)), only: always, unit: seconds, run: named(readFiles)},
		{name: "stat, median", meta: true, only: warm, unit: micros, run: named(statLatency)},
		{name: "open + close, median", only: warm, unit: micros, run: named(openLatency)},
		{name: "open + read + close, median", only: warm, unit: micros, run: named(openReadLatency)},
		{name: "pread 4 KiB, median", only: warm, unit: micros, run: named(preadLatency)},
	}, nil
}

// readBudget is how fast reading must be, against the native file system.
func readBudget(w workload, s state, mode string) *budget {
	switch {
	case mode == "fuse" && (w.meta || s != cold):
		return atLeast(0.6)
	case mode != "kernel":
		return nil
	case w.meta:
		return atLeast(1)
	case s == warm:
		return atLeast(0.95)
	case s == firstTouch:
		return atLeast(0.8)
	}
	return nil
}

// reads is section read.
func (b *bench) reads(ctx context.Context) error {
	var tables [states]*table
	for s := range states {
		tables[s] = b.rep.table(fmt.Sprintf("Read, %s: median of %d; vs is %s time through ours", s, b.reps, fsName(b.lab.dir)))
	}
	mem := b.rep.table("Memory while reading: of the process that serves the mount")
	for _, t := range []*tree{b.trees.debian, b.trees.toolchain, b.trees.grown, b.trees.big} {
		if !slices.Contains(split(b.options.trees), t.name) {
			continue
		}
		err := b.readTree(ctx, t, tables, mem)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.rep.note("read, %s: %v", t.name, err)
		}
	}
	return nil
}

func (b *bench) readTree(ctx context.Context, t *tree, tables [states]*table, mem *table) (err error) {
	dir, err := t.open(ctx, b.lab)
	if err != nil {
		return err
	}
	work, err := b.workloads(t, dir)
	if err != nil {
		return err
	}
	subjects, err := b.subjects(ctx, t, dir)
	defer func() {
		for _, s := range subjects {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return err
	}
	for _, w := range work {
		for s := range states {
			if (w.only != always && w.only != s) || (s != warm && !b.lab.root) {
				continue
			}
			b.lab.say("read %s: %s, %s", t.name, w.name, s)
			times, err := b.interleave(ctx, w, s, subjects)
			if err != nil {
				return err
			}
			cells := readCells(w, s, subjects, times)
			for _, c := range cells {
				b.lab.say("  %s: %s", c.Column, c)
			}
			tables[s].add(w.name+", "+t.name, cells...)
		}
	}
	for _, s := range subjects {
		if s.memory != nil {
			if now, peak := s.memory(); peak > 0 {
				mem.add(s.name+", "+t.name, figure("at the end", now, byteSize, nil), figure("peak", peak, byteSize, nil))
			}
		}
	}
	return nil
}

// subjects returns all ways to have a tree.
func (b *bench) subjects(ctx context.Context, t *tree, dir string) ([]*subject, error) {
	b.lab.say("read %s: pack", t.name)
	ref, err := b.product.publish(ctx, dir, t.name)
	if err != nil {
		return nil, err
	}
	all := []*subject{native(dir)}
	for _, mode := range b.modes {
		all = append(all, ours(b.product, ref, mode))
	}
	for _, p := range b.peers {
		if !p.limit && t != b.trees.grown && t != b.trees.big {
			continue // these two trees are enough to compare
		}
		s, err := p.subject(ctx, b.lab, dir)
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		if err != nil {
			b.rep.note("%s is left out of tree %s: %v", p.name, t.name, err)
			continue
		}
		all = append(all, s)
	}
	return all, nil
}

// interleave runs a workload on all subjects in turn, and again.
func (b *bench) interleave(ctx context.Context, w workload, s state, subjects []*subject) (map[*subject]samples, error) {
	times := make(map[*subject]samples)
	roots := make(map[*subject]string)
	lost := make(map[*subject]bool)
	for rep := range b.reps {
		for _, sub := range subjects {
			if lost[sub] || (s == cold && !sub.hasCold) {
				continue
			}
			took, err := b.once(ctx, w, s, sub, roots, rep == 0)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				lost[sub] = true
				delete(times, sub)
				b.failed(sub, fmt.Errorf("%s, %s: %w", w.name, s, err))
				continue
			}
			times[sub] = append(times[sub], took.Seconds())
		}
	}
	return times, nil
}

// failed keeps an error: of ours as a failure, of others as a note.
func (b *bench) failed(sub *subject, err error) {
	if sub.mode != "" {
		b.rep.fail("%s: %v", sub.name, err)
	} else {
		b.rep.note("%s: %v", sub.name, err)
	}
}

// once brings a subject into a state and runs a workload on it. What was read before a first
// touch was read by the same workload.
func (b *bench) once(ctx context.Context, w workload, s state, sub *subject, roots map[*subject]string, first bool) (time.Duration, error) {
	mount := func(cold bool) error {
		root, err := sub.fresh(ctx, cold)
		roots[sub] = root
		return err
	}
	if s == cold || first {
		if err := mount(s == cold); err != nil {
			return 0, err
		}
	}
	if s != cold && first {
		if _, err := w.run(ctx, roots[sub], s); err != nil {
			return 0, err
		}
	}
	if s == firstTouch {
		if err := mount(false); err != nil {
			return 0, err
		}
	}
	if s != warm {
		if err := dropCaches(); err != nil {
			return 0, err
		}
	}
	return w.run(ctx, roots[sub], s)
}

// readCells shows the times of all subjects, and how ours compare to the first.
func readCells(w workload, s state, subjects []*subject, times map[*subject]samples) []cell {
	var cells []cell
	base := times[subjects[0]].median()
	for _, sub := range subjects {
		t := times[sub].median()
		if t == 0 {
			continue
		}
		if w.unit == rate {
			cells = append(cells, figure(sub.name, float64(w.ops(s))/t, rate, nil))
		} else {
			cells = append(cells, figure(sub.name, t, w.unit, nil))
		}
		if sub.mode != "" {
			cells = append(cells, figure("vs "+sub.mode, over(base, t), ratio, readBudget(w, s, sub.mode)))
		}
	}
	return cells
}
