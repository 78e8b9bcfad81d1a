package node_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	helpLine   = regexp.MustCompile(`^# HELP ([a-z_:][a-z0-9_:]*) ((?:[^\\]|\\\\|\\n)+)$`)
	typeLine   = regexp.MustCompile(`^# TYPE ([a-z_:][a-z0-9_:]*) (counter|gauge)$`)
	sampleLine = regexp.MustCompile(`^([a-z_:][a-z0-9_:]*)(?:\{(.+)\})? ([0-9.e+-]+)$`)
	labelPair  = regexp.MustCompile(`^([a-z_][a-z0-9_]*)="((?:[^"\\]|\\\\|\\"|\\n)*)"(,|$)`)
)

// parseMetrics reads the text format of Prometheus 0.0.4, as far as the service uses it, and
// takes nothing else: HELP, TYPE and samples of a metric together, each once, no empty lines,
// known escapes, counters that are not negative.
func parseMetrics(text string) (figures, error) {
	f := figures{map[string]string{}, map[string]float64{}}
	if text != "" && !strings.HasSuffix(text, "\n") {
		return f, fmt.Errorf("no end of the last line")
	}
	if !utf8.ValidString(text) {
		return f, fmt.Errorf("not UTF-8")
	}
	helped, metric := "", ""
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if text == "" {
			break
		}
		err := func() error {
			if m := helpLine.FindStringSubmatch(line); m != nil {
				helped = m[1]
				return nil
			}
			if m := typeLine.FindStringSubmatch(line); m != nil {
				if m[1] != helped {
					return fmt.Errorf("type without help")
				}
				if f.kind[m[1]] != "" {
					return fmt.Errorf("metric twice")
				}
				metric = m[1]
				f.kind[metric] = m[2]
				return nil
			}
			return f.sample(line, metric)
		}()
		if err != nil {
			return f, fmt.Errorf("line %d: %q: %w", i+1, line, err)
		}
	}
	return f, nil
}

func (f figures) sample(line, metric string) error {
	m := sampleLine.FindStringSubmatch(line)
	if m == nil || m[1] != metric {
		return fmt.Errorf("no sample of %q", metric)
	}
	v, err := strconv.ParseFloat(m[3], 64)
	if err != nil {
		return err
	}
	if v < 0 && f.kind[metric] == "counter" {
		return fmt.Errorf("a counter is negative")
	}
	seen := map[string]bool{}
	for rest := m[2]; rest != ""; {
		l := labelPair.FindStringSubmatch(rest)
		if l == nil || seen[l[1]] {
			return fmt.Errorf("labels at %q", rest)
		}
		seen[l[1]] = true
		rest = rest[len(l[0]):]
	}
	series := line[:len(line)-len(m[3])-1]
	if _, twice := f.value[series]; twice {
		return fmt.Errorf("series twice")
	}
	f.value[series] = v
	return nil
}
