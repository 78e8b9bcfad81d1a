package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// unit tells what a value is and how it is printed.
type unit string

const (
	seconds  unit = "s"
	micros   unit = "us" // of a value in seconds
	byteSize unit = "B"
	count    unit = ""
	rate     unit = "/s"
	ratio    unit = "x"
	percent  unit = "%"
)

// format prints v for people.
func (u unit) format(v float64) string {
	switch u {
	case seconds:
		switch {
		case v < 0.01:
			return fmt.Sprintf("%.2f ms", v*1000)
		case v < 1:
			return fmt.Sprintf("%.0f ms", v*1000)
		}
		return fmt.Sprintf("%.2f s", v)
	case micros:
		return fmt.Sprintf("%.2f us", v*1e6)
	case byteSize:
		switch {
		case v < 10_000:
			return fmt.Sprintf("%.0f B", v)
		case v < 1<<20:
			return fmt.Sprintf("%.1f KiB", v/(1<<10))
		}
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	case ratio:
		return fmt.Sprintf("%.2fx", v)
	case percent:
		return fmt.Sprintf("%.1f %%", v)
	}
	return thousands(int64(math.Round(v))) + string(u)
}

// thousands prints n with commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// budget is what a figure must keep to.
type budget struct {
	Limit float64 `json:"limit"`
	Least bool    `json:"least"` // at least Limit; else at most
}

func atLeast(v float64) *budget { return &budget{Limit: v, Least: true} }
func atMost(v float64) *budget  { return &budget{Limit: v} }

func (b *budget) kept(v float64) bool {
	if b.Least {
		return v >= b.Limit
	}
	return v <= b.Limit
}

// cell is one figure, or text where there is none.
type cell struct {
	Column string   `json:"column"`
	Value  *float64 `json:"value,omitempty"` // in the base unit: seconds, bytes
	Unit   unit     `json:"unit,omitempty"`
	Text   string   `json:"text,omitempty"`
	Budget *budget  `json:"budget,omitempty"`
	OK     *bool    `json:"ok,omitempty"` // with Budget: whether it was kept
}

// figure is a cell with a number; b is its budget or nil.
func figure[T int | int64 | float64](column string, v T, u unit, b *budget) cell {
	f := float64(v)
	c := cell{Column: column, Value: &f, Unit: u, Budget: b}
	if b != nil {
		ok := b.kept(f)
		c.OK = &ok
	}
	return c
}

func text(column, s string) cell { return cell{Column: column, Text: s} }

func (c cell) String() string {
	if c.Value == nil {
		return c.Text
	}
	s := c.Unit.format(*c.Value)
	switch {
	case c.OK == nil:
		return s
	case *c.OK:
		return s + " ok"
	}
	return s + " MISSED"
}

// row is a line of a table. Its cells may be of some of the columns.
type row struct {
	Name  string `json:"name"`
	Cells []cell `json:"cells"`
}

// table is rows under one title. Columns appear in the order in which they are first used.
type table struct {
	Title string `json:"title"`
	Rows  []row  `json:"rows"`
}

func (t *table) add(name string, cells ...cell) {
	t.Rows = append(t.Rows, row{name, cells})
}

func (t *table) columns() []string {
	var all []string
	seen := make(map[string]bool)
	for _, r := range t.Rows {
		for _, c := range r.Cells {
			if !seen[c.Column] {
				seen[c.Column] = true
				all = append(all, c.Column)
			}
		}
	}
	return all
}

// write prints t with aligned columns, names to the left and figures to the right.
func (t *table) write(w *strings.Builder) {
	columns := t.columns()
	lines := [][]string{append([]string{""}, columns...)}
	for _, r := range t.Rows {
		line := make([]string, 1, len(columns)+1)
		line[0] = r.Name
		for _, name := range columns {
			line = append(line, r.cell(name))
		}
		lines = append(lines, line)
	}
	fmt.Fprintf(w, "\n%s\n", t.Title)
	writeAligned(w, lines)
}

func (r row) cell(column string) string {
	for _, c := range r.Cells {
		if c.Column == column {
			return c.String()
		}
	}
	return "-"
}

func writeAligned(w *strings.Builder, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, s := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(s))
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, s := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(s))
			if i == 0 {
				b.WriteString(s + pad)
			} else {
				b.WriteString("  " + pad + s)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// report is the outcome of a run.
type report struct {
	Machine []fact   `json:"machine"`
	Tables  []*table `json:"tables"`
	Notes   []string `json:"notes"`  // what was left out, and why
	Failed  []string `json:"failed"` // what should have worked
}

type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (r *report) table(title string) *table {
	t := &table{Title: title}
	r.Tables = append(r.Tables, t)
	return t
}

// note keeps a remark, once.
func (r *report) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	for _, n := range r.Notes {
		if n == s {
			return
		}
	}
	r.Notes = append(r.Notes, s)
}

func (r *report) fail(format string, args ...any) {
	r.Failed = append(r.Failed, fmt.Sprintf(format, args...))
}

// budgets lists all figures that have a budget.
func (r *report) budgets() *table {
	b := &table{Title: "Budgets"}
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			for _, c := range row.Cells {
				if c.Budget == nil {
					continue
				}
				sign := "<= "
				if c.Budget.Least {
					sign = ">= "
				}
				verdict := "ok"
				if !*c.OK {
					verdict = "MISSED"
				}
				name, _, _ := strings.Cut(t.Title, ":")
				b.add(name+": "+row.Name+", "+c.Column, text("figure", c.Unit.format(*c.Value)), text("budget", sign+c.Unit.format(c.Budget.Limit)), text("", verdict))
			}
		}
	}
	return b
}

// text returns the report for people.
func (r *report) text() string {
	var w strings.Builder
	for _, f := range r.Machine {
		fmt.Fprintf(&w, "%-13s%s\n", f.Name, f.Value)
	}
	for _, t := range append(r.Tables[:len(r.Tables):len(r.Tables)], r.budgets()) {
		if len(t.Rows) > 0 {
			t.write(&w)
		}
	}
	list(&w, "Notes", r.Notes)
	list(&w, "Failed", r.Failed)
	return w.String()
}

func list(w *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(w, "- %s\n", strings.ReplaceAll(l, "\n", "\n  "))
	}
}

func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
