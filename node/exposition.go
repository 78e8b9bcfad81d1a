package node

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// exposition writes the text format of Prometheus, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
type exposition struct{ b bytes.Buffer }

type label struct{ name, value string }

type sample struct {
	labels []label
	value  float64
}

type number interface{ int | int64 | uint64 | float64 }

// one returns the samples of a metric without labels.
func one[N number](v N) []sample { return []sample{{value: float64(v)}} }

// by returns the samples of a metric with one label, in the order of its values.
func by[N number](name string, values map[string]N) []sample {
	list := make([]sample, 0, len(values))
	for _, v := range slices.Sorted(maps.Keys(values)) {
		list = append(list, sample{[]label{{name, v}}, float64(values[v])})
	}
	return list
}

func (x *exposition) counter(name, help string, list ...sample) {
	x.family("counter", name, help, list)
}

func (x *exposition) gauge(name, help string, list ...sample) { x.family("gauge", name, help, list) }

func (x *exposition) family(kind, name, help string, list []sample) {
	x.b.WriteString("# HELP " + name + " " + helpEscaper.Replace(help) + "\n# TYPE " + name + " " + kind + "\n")
	for _, s := range list {
		x.b.WriteString(name)
		for i, l := range s.labels {
			sep := byte(',')
			if i == 0 {
				sep = '{'
			}
			x.b.WriteByte(sep)
			x.b.WriteString(l.name + `="` + labelEscaper.Replace(strings.ToValidUTF8(l.value, "\uFFFD")) + `"`)
		}
		if len(s.labels) > 0 {
			x.b.WriteByte('}')
		}
		x.b.WriteString(" " + strconv.FormatFloat(s.value, 'f', -1, 64) + "\n")
	}
}

var (
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)
