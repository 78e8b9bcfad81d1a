package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// size is a flag of bytes: a number, with K, M, G or T for powers of 1024.
type size int64

// Set implements pflag.Value.
func (s *size) Set(text string) error {
	num := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text), "B"), "I")
	shift := 0
	if i := strings.IndexAny(num, "KMGT"); i >= 0 && i == len(num)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGT", num[i]))
		num = num[:i]
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || v < 0 || math.IsNaN(v) || v*float64(int64(1)<<shift) > math.MaxInt64/2 {
		return fmt.Errorf("%q is no size: want a number with K, M, G or T", text)
	}
	*s = size(v * float64(int64(1)<<shift))
	return nil
}

// String implements pflag.Value.
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return bytesText(int64(*s))
}

// Type implements pflag.Value.
func (*size) Type() string { return "size" }

// number is a flag that is not negative.
type number int

// Set implements pflag.Value.
func (n *number) Set(text string) error {
	v, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return errors.New("want a number, 0 or more")
	}
	*n = number(v)
	return nil
}

// String implements pflag.Value.
func (n *number) String() string { return strconv.Itoa(int(*n)) }

// Type implements pflag.Value.
func (*number) Type() string { return "int" }

// count writes a number of things.
func count[N int | int64](n N, thing string) string {
	return fmt.Sprint(n, " ", plural(n, thing))
}

// plural returns what n of a thing are called.
func plural[N int | int64](n N, thing string) string {
	switch stem, y := strings.CutSuffix(thing, "y"); {
	case n == 1:
		return thing
	case y:
		return stem + "ies"
	case strings.HasSuffix(thing, "s"):
		return thing + "es"
	}
	return thing + "s"
}

// bytesText writes n for a person, in binary units.
func bytesText(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}
