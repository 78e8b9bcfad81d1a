package image

import "errors"

// launch starts f as soon as the gate admits it.
func (im *Image) launch(f *flight) {
	im.ahead.book(im, f.size())
	t := im.gate.enqueue(f.class, f.size())
	ok := im.spawn(func() {
		if err := t.wait(im.ctx); err != nil {
			f.land(err)
			return
		}
		defer t.release()
		f.run()
	})
	if !ok {
		t.abandon()
		f.land(errClosed)
	}
}

// run makes the request. It ends with every load finished.
func (f *flight) run() {
	f.im.stats.requests.Add(1)
	f.land(f.read(f.im.ctx, f.im, f.deliver))
}

// book counts the bytes of a range that came.
func (f *flight) book() {
	wanted := int64(0)
	for _, l := range f.loads {
		wanted += int64(l.ref.Stored)
	}
	f.im.stats.bytes.Add(f.size())
	f.im.stats.wasted.Add(max(0, f.size()-wanted))
}

func (f *flight) deliver(l *load, plain []byte) {
	f.booked.Do(f.book)
	f.im.stats.fetched.Add(1)
	if l.taken || f.class == readAhead {
		f.im.stats.aheadFetched.Add(1)
		f.im.stats.ahead.set(l.id)
	}
	f.im.failures.forget(l.id)
	l.finish(plain, nil)
}

// land ends the loads that were not delivered, because of err. It is remembered for what was
// asked for; what was taken along may be had in another way.
func (f *flight) land(err error) {
	if f.im.ctx.Err() != nil {
		err = errClosed
	}
	f.fail(err, func(l *load, err error) {
		if !l.taken && f.class != readAhead && !errors.Is(err, errClosed) {
			f.im.failures.add(l.id, err)
		}
		l.finish(nil, err)
	})
}
