package db

import "testing"

// Rows counts the rows of a table.
func (d *DB) Rows(t testing.TB, table string) (n int) {
	t.Helper()
	if err := d.read.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
