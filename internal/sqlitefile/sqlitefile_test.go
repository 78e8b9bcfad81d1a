package sqlitefile_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/internal/sqlitefile"
	"github.com/zosfs/zosfs/internal/testenv"
)

var (
	rows = sqlitefile.Table{Name: "rows", SQL: "CREATE TABLE rows(id INTEGER PRIMARY KEY, a INTEGER, b BLOB, c TEXT)"}
	keys = sqlitefile.Table{Name: "keys", SQL: `CREATE TABLE keys(k INTEGER, name BLOB, v BLOB, PRIMARY KEY(k, name)) WITHOUT ROWID`, WithoutRowID: true}
)

type row struct {
	id int64
	a  int64
	b  []byte
	c  string
}

type key struct {
	k    int64
	name []byte
	v    []byte
}

var ints = []int64{0, 1, -1, 127, 128, -128, -129, 32767, 32768, 1<<23 - 1, 1 << 23, -1 << 23, -1<<23 - 1,
	math.MaxInt32, math.MinInt32, 1<<47 - 1, 1 << 47, -1 << 47, -1<<47 - 1, math.MaxInt64, math.MinInt64}

// content makes n rows and keys whose sizes cross every limit of pages and overflow chains.
func content(n int) ([]row, []key) {
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, 10, 100, 480, 489, 490, 1001, 1002, 1003, 4000, 4061, 4062, 8000, 20000}
	blobOf := func(limit int) []byte {
		p := make([]byte, sizes[rng.IntN(limit)])
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	var rs []row
	var ks []key
	id := int64(-5)
	for i := range n {
		limit := 4
		if rng.IntN(50) == 0 {
			limit = len(sizes)
		}
		id += 1 + int64(rng.IntN(3))*int64(rng.IntN(1000))
		rs = append(rs, row{id, ints[i%len(ints)], blobOf(limit), fmt.Sprint("text ", i)})
		ks = append(ks, key{int64(i / 7), fmt.Appendf(nil, "%c", 'a'+i%7), blobOf(limit)})
	}
	return rs, ks
}

func build(t testing.TB, rs []row, ks []key) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := sqlitefile.NewWriter(f, sqlitefile.Header{ApplicationID: 0x5a4f5346, UserVersion: 7})
	if err != nil {
		t.Fatal(err)
	}
	var r sqlitefile.Record
	tw := w.Begin(rows)
	for _, x := range rs {
		r.Reset()
		if err := tw.Insert(x.id, r.Null().Int(x.a).Blob(x.b).Text(x.c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.End(); err != nil {
		t.Fatal(err)
	}
	tw = w.Begin(keys)
	for _, x := range ks {
		r.Reset()
		if err := tw.Append(r.Int(x.k).Blob(x.name).Blob(x.v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.End(); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *sqlitefile.DB {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlitefile.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 5, 30, 31, 32, 100, 1000, 20000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rs, ks := content(n)
			db := open(t, build(t, rs, ks))
			if got := db.Header(); got.ApplicationID != 0x5a4f5346 || got.UserVersion != 7 {
				t.Errorf("Header() = %+v", got)
			}
			scan := db.NewScan()
			i := 0
			err := scan.Rows("rows", 4, func(id int64, c []sqlitefile.Value) error {
				x := rs[i]
				if id != x.id || c[1].Int != x.a || !bytes.Equal(c[2].Bytes, x.b) || string(c[3].Bytes) != x.c {
					return fmt.Errorf("row %d: got %d %v, want %v", i, id, c[1], x.id)
				}
				i++
				return nil
			})
			if err != nil || i != n {
				t.Fatalf("Rows: %d of %d, %v", i, n, err)
			}
			i = 0
			err = scan.Keys("keys", 3, func(c []sqlitefile.Value) error {
				x := ks[i]
				if c[0].Int != x.k || !bytes.Equal(c[1].Bytes, x.name) || !bytes.Equal(c[2].Bytes, x.v) {
					return fmt.Errorf("key %d: got %v %q", i, c[0], c[1].Bytes)
				}
				i++
				return nil
			})
			if err != nil || i != n {
				t.Fatalf("Keys: %d of %d, %v", i, n, err)
			}
			seek(t, db, rs, ks)
		})
	}
}

func seek(t *testing.T, db *sqlitefile.DB, rs []row, ks []key) {
	t.Helper()
	cur, err := db.Cursor("rows", 4, false)
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[int64]row)
	for _, x := range rs {
		have[x.id] = x
	}
	col := make([]sqlitefile.Value, 4)
	for _, x := range rs {
		for _, id := range []int64{x.id, x.id + 1} {
			want, in := have[id]
			ok, err := cur.Row(id, col)
			if err != nil || ok != in || ok && string(col[3].Bytes) != want.c {
				t.Fatalf("Row(%d) = %v, %v, want %v", id, ok, err, in)
			}
		}
	}
	kc, err := db.Cursor("keys", 3, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(ks); i += 13 {
		at, left := i, 20
		err := kc.From(func(c []sqlitefile.Value) bool {
			return c[0].Int < ks[i].k || c[0].Int == ks[i].k && bytes.Compare(c[1].Bytes, ks[i].name) < 0
		}, func(c []sqlitefile.Value) bool {
			if c[0].Int != ks[at].k || !bytes.Equal(c[1].Bytes, ks[at].name) || !bytes.Equal(c[2].Bytes, ks[at].v) {
				t.Fatalf("From(%d): at %d got %d %q", i, at, c[0].Int, c[1].Bytes)
			}
			at++
			left--
			return left > 0
		})
		if err != nil || at != min(i+20, len(ks)) {
			t.Fatalf("From(%d): %d rows, %v", i, at-i, err)
		}
	}
}

// TestEngine has the real engine judge what the Writer wrote.
func TestEngine(t *testing.T) {
	testenv.NeedTool(t, "sqlite3")
	rs, ks := content(20000)
	path := build(t, rs, ks)
	out, err := exec.CommandContext(t.Context(), "sqlite3", path, "PRAGMA integrity_check; PRAGMA user_version; SELECT count(*), sum(length(b)) FROM rows; SELECT count(*), sum(length(v)) FROM keys; SELECT a FROM rows LIMIT 21; SELECT count(*) FROM rows WHERE id IN (SELECT id FROM rows);").CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	var nb, nv int
	for i := range rs {
		nb += len(rs[i].b)
		nv += len(ks[i].v)
	}
	want := fmt.Sprintf("ok\n7\n20000|%d\n20000|%d\n", nb, nv)
	for _, v := range ints {
		want += fmt.Sprintln(v)
	}
	want += "20000\n"
	if string(out) != want {
		t.Errorf("sqlite3 printed\n%s\nwant\n%s", out, want)
	}
}

// TestEngineWritten reads a database that the real engine wrote and changed.
func TestEngineWritten(t *testing.T) {
	testenv.NeedTool(t, "sqlite3")
	path := filepath.Join(t.TempDir(), "e.db")
	script := rows.SQL + ";" + keys.SQL + `;
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 5000) INSERT INTO rows SELECT i*2, i*i, zeroblob(i%3000), 'c'||i FROM n;
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 5000) INSERT INTO keys SELECT (i*7919)%5000, 'n', zeroblob(i%2000) FROM n;
		DELETE FROM rows WHERE id % 10 = 0;`
	if out, err := exec.CommandContext(t.Context(), "sqlite3", path, script).CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	db := open(t, path)
	scan, n, last := db.NewScan(), 0, int64(-1)
	if err := scan.Rows("rows", 4, func(id int64, c []sqlitefile.Value) error {
		if i := id / 2; c[1].Int != i*i || len(c[2].Bytes) != int(i%3000) {
			return fmt.Errorf("row %d: %d, %d bytes", id, c[1].Int, len(c[2].Bytes))
		}
		n++
		return nil
	}); err != nil || n != 4000 {
		t.Errorf("Rows: %d, %v", n, err)
	}
	if err := scan.Keys("keys", 3, func(c []sqlitefile.Value) error {
		if c[0].Int <= last {
			return fmt.Errorf("key %d after %d", c[0].Int, last)
		}
		last = c[0].Int
		return nil
	}); err != nil || last != 4999 {
		t.Errorf("Keys: last %d, %v", last, err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, n := range []int{0, 3, 400} {
		rs, ks := content(n)
		p, err := os.ReadFile(build(f, rs, ks))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		for _, at := range []int{16, 28, 100, 103, 108, 4096, 4099, 4101, 4104, 8192, 8195} {
			if at < len(p) {
				q := bytes.Clone(p)
				q[at] ^= 0x0f
				f.Add(q)
			}
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		db, err := sqlitefile.Open(p)
		if err != nil {
			return
		}
		scan := db.NewScan()
		var ids []int64
		_ = scan.Rows("rows", 4, func(id int64, _ []sqlitefile.Value) error { ids = append(ids, id); return nil })
		_ = scan.Keys("keys", 3, func([]sqlitefile.Value) error { return nil })
		if cur, err := db.Cursor("rows", 4, false); err == nil {
			col := make([]sqlitefile.Value, 4)
			for _, id := range ids[:min(len(ids), 50)] {
				_, _ = cur.Row(id, col)
			}
		}
		if cur, err := db.Cursor("keys", 3, true); err == nil {
			n := 0
			_ = cur.From(func(c []sqlitefile.Value) bool { return c[0].Int < 5 }, func([]sqlitefile.Value) bool { n++; return n < 1000 })
		}
	})
}

func BenchmarkScan(b *testing.B) {
	rs, ks := content(100000)
	for i := range rs {
		rs[i].b, ks[i].v = rs[i].b[:min(len(rs[i].b), 32)], nil
	}
	db := open(b, build(b, rs, ks))
	for b.Loop() {
		if err := db.NewScan().Rows("rows", 4, func(int64, []sqlitefile.Value) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100000, "ns/row")
}

func BenchmarkRow(b *testing.B) {
	rs, ks := content(100000)
	db := open(b, build(b, rs, ks))
	cur, err := db.Cursor("rows", 4, false)
	if err != nil {
		b.Fatal(err)
	}
	col := make([]sqlitefile.Value, 4)
	i := 0
	for b.Loop() {
		if ok, err := cur.Row(rs[i%len(rs)].id, col); !ok || err != nil {
			b.Fatal(ok, err)
		}
		i += 7919
	}
}
