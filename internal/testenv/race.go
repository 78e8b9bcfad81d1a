//go:build race

package testenv

// Race reports whether the race detector runs, which multiplies time and memory. Limits of
// memory are checked exactly without it alone: "make test" runs those tests both ways.
const Race = true
