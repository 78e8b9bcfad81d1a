package db

import (
	"strings"
	"testing"
)

// Rows counts the rows of a table.
func (d *DB) Rows(t testing.TB, table string) (n int) {
	t.Helper()
	if err := d.read.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// LocatePlan returns how the engine looks chunks up.
func (d *DB) LocatePlan(t testing.TB) string {
	t.Helper()
	r, err := d.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+candidates(3), 1, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var plan []string
	for r.Next() {
		var a, b, c int
		var text string
		if err := r.Scan(&a, &b, &c, &text); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, text)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "; ")
}
