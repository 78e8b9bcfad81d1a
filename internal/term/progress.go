package term

import (
	"cmp"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Options say how progress is shown, and when it is not although there is a terminal.
type Options struct {
	Quiet bool   // people asked for silence
	JSON  bool   // a program is listening
	Unit  string // what Files counts, in the plural; "" means "files"
}

// A Progress shows how far long work has come, in the last line of a terminal: bytes and
// files done, rate, time left and the share that was deduplicated. Count into the fields,
// from any goroutine, and call Done or Abort in the end. Where nothing is to be shown a
// Progress costs nothing, and everything about it works.
type Progress struct {
	Files      atomic.Int64 // done
	Bytes      atomic.Int64 // done
	TotalBytes atomic.Int64 // to do, with those done; 0: not known
	Deduped    atomic.Int64 // of Bytes, those that were there already

	out   io.Writer
	title string
	unit  string
	start time.Time
	bars  *mpb.Progress // nil: nothing is shown
	bar   *mpb.Bar

	mu     sync.Mutex // guards what follows; held while update runs
	rate   meter
	update func() // of Follow; nil if there is none
	ended  bool
}

// NewProgress shows progress under a title of one word in w, if that is a terminal and o
// lets it.
func NewProgress(w io.Writer, title string, o Options) *Progress {
	p := &Progress{title: title, unit: cmp.Or(o.Unit, "files"), start: time.Now()}
	if o.Quiet || o.JSON || !obeys(w) {
		return p
	}
	p.out = w
	p.bars = mpb.New(mpb.WithOutput(w))
	p.bar = p.bars.MustAdd(0, mpb.BarFillerFunc(p.fill), mpb.BarFillerTrim())
	return p
}

// Shown reports whether anything is shown, for work that would be done for that alone.
func (p *Progress) Shown() bool { return p.bars != nil }

// Set sets the counters of what is done and, if it is known, of what is to do.
func (p *Progress) Set(files, bytes, total int64) {
	p.Files.Store(files)
	p.Bytes.Store(bytes)
	p.TotalBytes.Store(total)
}

// Follow has update called before each look at the counters, to set them from wherever the
// work counts. stop calls it a last time and no more; call it before Done. There is one
// update at a time. It must not call Follow, Done or Abort.
func (p *Progress) Follow(update func()) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.update = update
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.update = nil
		update()
	})
}

// Done ends the progress of work that is complete; its last state stays on the terminal, in
// a line of its own. After Done or Abort it does nothing.
func (p *Progress) Done() {
	if p.end() {
		p.bar.SetTotal(-1, true)
		p.bars.Wait()
	}
}

// Abort ends the progress of work that failed and clears its line. After Done or Abort it
// does nothing.
func (p *Progress) Abort() {
	if p.end() {
		p.bar.Abort(true)
		p.bars.Wait()
		_, _ = io.WriteString(p.out, "\r\x1b[K") // what an echoed ^C kept from being erased
	}
}

// end reports whether there is a bar to end.
func (p *Progress) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.ended
	p.ended = true
	return first && p.bars != nil
}

// fill draws the line; mpb calls it.
func (p *Progress) fill(w io.Writer, s decor.Statistics) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.update != nil {
		p.update()
	}
	now := time.Now()
	st := state{
		title:   p.title,
		unit:    p.unit,
		files:   p.Files.Load(),
		bytes:   p.Bytes.Load(),
		total:   p.TotalBytes.Load(),
		deduped: p.Deduped.Load(),
		elapsed: now.Sub(p.start),
		done:    s.Completed,
	}
	st.rate = p.rate.add(st.elapsed, st.bytes)
	// The line begins at the first column: a terminal that echoes Ctrl-C as ^C has moved the
	// cursor. The last column stays free: some terminals go to the next line when it is filled.
	_, err := io.WriteString(w, "\r"+st.line(s.AvailableWidth-1))
	return err
}
