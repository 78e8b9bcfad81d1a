package flist

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/internal/sqlitefile"
)

// Summary is what Finish says of the flist it wrote.
type Summary struct {
	Digest     Digest     `json:"digest"`
	TreeDigest TreeDigest `json:"tree_digest"`
	Counts     Counts     `json:"counts"`
	Size       int64      `json:"flist_size"` // bytes of the shipped file
}

// Finish lays the database out, checks it as [Open] would, and writes its shipped form to
// path, whole or not at all. The Writer can only be closed afterwards.
func (w *Writer) Finish(path string) (_ Summary, err error) {
	f, err := os.CreateTemp(w.dir, "zosfs-flist-")
	if err != nil {
		return Summary{}, fmt.Errorf("temporary file for the flist: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := os.Remove(f.Name()); err != nil {
		return Summary{}, fmt.Errorf("temporary file for the flist: %w", err)
	}
	if err := w.layOut(f); err != nil {
		return Summary{}, fmt.Errorf("lay out flist: %w", err)
	}
	if err := errors.Join(w.links.Close(), w.objects.slots.Close(), w.chunks.slots.Close()); err != nil {
		return Summary{}, err
	}
	var s Summary
	err = atomicfile.Write(path, 0o644, func(out io.Writer) error {
		var g errgroup.Group // it is checked while it is compressed
		g.Go(func() error {
			r, err := openFile(f, w.dir)
			if err != nil {
				return fmt.Errorf("check the new flist: %w", err)
			}
			s.TreeDigest, s.Counts = r.TreeDigest(), r.Counts()
			return r.Close()
		})
		g.Go(func() (err error) {
			s.Digest, s.Size, err = ship(out, f)
			return err
		})
		return g.Wait()
	})
	return s, err
}

// ship compresses the database in f. One goroutine and no time: equal databases give equal
// files.
func ship(out io.Writer, f *os.File) (Digest, int64, error) {
	h := chunk.NewHasher()
	count := &counter{w: io.MultiWriter(out, h)}
	st, err := f.Stat()
	if err != nil {
		return Digest{}, 0, err
	}
	enc, err := zstd.NewWriter(count, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return Digest{}, 0, err
	}
	enc.ResetContentSize(count, st.Size())
	if _, err := io.Copy(enc, io.NewSectionReader(f, 0, st.Size())); err != nil {
		return Digest{}, 0, errors.Join(err, enc.Close())
	}
	if err := enc.Close(); err != nil {
		return Digest{}, 0, err
	}
	return Digest(h.Sum()), count.n, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (w *Writer) layOut(f *os.File) error {
	db, err := sqlitefile.NewWriter(f, sqlitefile.Header{ApplicationID: applicationID, UserVersion: userVersion})
	if err != nil {
		return err
	}
	fill := []func(*sqlitefile.TableWriter, *sqlitefile.Record) error{
		w.fillProperties, w.fillSources, w.fillNodes, w.fillEntries, w.fillXattrs, w.fillObjects, w.fillExtents, w.fillChunks, w.fillBlobs,
	}
	var rec sqlitefile.Record
	for i, t := range schema {
		tw := db.Begin(t)
		if err := fill[i](tw, &rec); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		if err := tw.End(); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return db.Finish()
}

func (w *Writer) fillProperties(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	for _, k := range slices.Sorted(maps.Keys(w.properties)) {
		r.Reset()
		if err := t.Append(r.Text(k).Blob([]byte(w.properties[k]))); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) fillSources(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	slices.SortStableFunc(w.sources, func(a, b Source) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), cmp.Compare(a.Priority, b.Priority))
	})
	for _, s := range slices.CompactFunc(w.sources, func(a, b Source) bool { return a.URL == b.URL }) {
		r.Reset()
		if err := t.Append(r.Text(s.URL).Int(int64(s.Priority))); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) fillNodes(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	in, err := w.nodes.reader()
	if err != nil {
		return err
	}
	var p [nodeRecord]byte
	target := make([]byte, MaxTarget)
	for i, l := range w.links.Items {
		if _, err := io.ReadFull(in, p[:]); err != nil {
			return err
		}
		if l.dir {
			l.n += 2
		}
		u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(p[at:])) }
		i64 := func(at int) int64 { return int64(binary.LittleEndian.Uint64(p[at:])) }
		r.Reset()
		r.Null().Int(u32(0)).Int(u32(4)).Int(u32(8)).Int(i64(12)).Int(i64(20)).Int(i64(28)).Int(int64(l.n))
		orNull(r, u32(36))
		if n := int(binary.LittleEndian.Uint16(p[44:])); n > 0 {
			if _, err := io.ReadFull(in, target[:n]); err != nil {
				return err
			}
			r.Blob(target[:n])
		} else {
			r.Null()
		}
		orNull(r, u32(40))
		if err := t.Insert(int64(i+1), r); err != nil {
			return err
		}
	}
	return nil
}

// orNull appends an id, or NULL for the id of nothing.
func orNull(r *sqlitefile.Record, id int64) {
	if id == 0 {
		r.Null()
	} else {
		r.Int(id)
	}
}

func (w *Writer) fillEntries(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	if err := w.entries.flush(); err != nil {
		return err
	}
	slices.SortFunc(w.groups.Items, func(a, b entryGroup) int { return cmp.Compare(a.parent, b.parent) })
	in := &groupReader{s: w.entries}
	var name [MaxName]byte
	for _, g := range w.groups.Items {
		in.seek(g.off)
		for range g.count {
			var p [entryRecord]byte
			if err := in.read(p[:]); err != nil {
				return err
			}
			n := name[:p[4]]
			if err := in.read(n); err != nil {
				return err
			}
			r.Reset()
			r.Int(int64(g.parent)).Blob(n).Int(int64(binary.LittleEndian.Uint32(p[:])))
			if err := t.Append(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// A groupReader reads a spool in runs; runs that lie near each other share a buffer.
type groupReader struct {
	s    *spool
	buf  []byte
	base int64 // of buf in the spool
	at   int64
}

func (g *groupReader) seek(off int64) { g.at = off }

func (g *groupReader) read(p []byte) error {
	if g.at < g.base || g.at+int64(len(p)) > g.base+int64(len(g.buf)) {
		n := min(int64(16<<10), g.s.size()-g.at)
		if n < int64(len(p)) {
			return io.ErrUnexpectedEOF
		}
		if g.buf == nil {
			g.buf = make([]byte, 16<<10)
		}
		g.buf, g.base = g.buf[:n], g.at
		if err := g.s.readAt(g.buf, g.at); err != nil {
			return err
		}
	}
	copy(p, g.buf[g.at-g.base:])
	g.at += int64(len(p))
	return nil
}

func (w *Writer) fillXattrs(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	in, err := w.xattrs.reader()
	if err != nil {
		return err
	}
	for {
		var p [xattrRecord]byte
		if _, err := io.ReadFull(in, p[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		data := make([]byte, int(p[4])+int(binary.LittleEndian.Uint32(p[5:])))
		if _, err := io.ReadFull(in, data); err != nil {
			return err
		}
		r.Reset()
		r.Int(int64(binary.LittleEndian.Uint32(p[:]))).Blob(data[:p[4]]).Blob(data[p[4]:])
		if err := t.Append(r); err != nil {
			return err
		}
	}
}

func (w *Writer) fillObjects(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	return eachRecord(w.objects.digests, objectRecord, func(i int64, p []byte) error {
		r.Reset()
		return t.Insert(i, r.Null().Blob(p[:32]).Int(int64(binary.LittleEndian.Uint64(p[32:]))))
	})
}

func (w *Writer) fillExtents(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	return eachRecord(w.extents, extentRecord, func(_ int64, p []byte) error {
		r.Reset()
		object, id := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
		return t.Append(r.Int(int64(object)).Int(int64(binary.LittleEndian.Uint64(p[8:]))).Int(int64(id)))
	})
}

func (w *Writer) fillChunks(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	return eachRecord(w.chunks.digests, chunkRecord, func(i int64, p []byte) error {
		u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(p[at:])) }
		r.Reset()
		r.Null().Blob(p[:32]).Int(u32(32)).Int(u32(36)).Int(u32(40)).Int(u32(44)).Int(int64(p[48])).Null().Null()
		return t.Insert(i, r)
	})
}

// eachRecord calls fn for each record of size bytes, numbered from 1.
func eachRecord(s *spool, size int, fn func(int64, []byte) error) error {
	in, err := s.reader()
	if err != nil {
		return err
	}
	p := make([]byte, size)
	for i := range s.size() / int64(size) {
		if _, err := io.ReadFull(in, p); err != nil {
			return err
		}
		if err := fn(i+1, p); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) fillBlobs(t *sqlitefile.TableWriter, r *sqlitefile.Record) error {
	for i, b := range w.blobs {
		if b.Digest.IsZero() {
			return fmt.Errorf("blob %d was never closed", i+1)
		}
		r.Reset()
		if err := t.Insert(int64(i+1), r.Null().Blob(b.Digest[:]).Int(b.Size)); err != nil {
			return err
		}
	}
	return nil
}
