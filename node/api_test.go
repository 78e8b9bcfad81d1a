package node

import (
	"encoding"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/internal/testenv"
)

// apiPage returns docs/node-api.md by sections.
func apiPage(t *testing.T) map[string]string {
	t.Helper()
	p, err := os.ReadFile("../docs/node-api.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(p), "\n## ")[1:] {
		title, text, _ := strings.Cut(s, "\n")
		sections[title] = text
	}
	return sections
}

var (
	apiRow  = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([a-z0-9]+) \\|")
	apiJSON = regexp.MustCompile("(?s)```json\n(.*?)```")
)

// TestAPIRoutes: the page has the requests that the service has, and no others.
func TestAPIRoutes(t *testing.T) {
	var want, got []string
	for _, r := range (&service{}).routes() {
		want = append(want, r.pattern)
	}
	for title := range apiPage(t) {
		if strings.Contains(title, " /") {
			got = append(got, title)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the page has %q, the service %q", got, want)
	}
}

// TestAPIBodies: the examples are bodies as the service takes and sends them, and all that can be
// in one is on the page.
func TestAPIBodies(t *testing.T) {
	page := apiPage(t)
	tests := map[string][]any{
		"Errors":           {&ErrorBody{}},
		"GET /v1/ping":     {&Pong{}},
		"GET /v1/status":   {&Status{}},
		"GET /v1/events":   {&Event{}},
		"POST /v1/mount":   {&MountRequest{}},
		"POST /v1/unmount": {&UnmountRequest{}},
		"POST /v1/prune":   {&PruneRequest{}, &PruneResult{}},
		"POST /v1/stop":    {},
	}
	for title, bodies := range tests {
		examples := apiJSON.FindAllStringSubmatch(page[title], -1)
		if len(examples) != len(bodies) {
			t.Errorf("%s has %d examples, want %d", title, len(examples), len(bodies))
			continue
		}
		for i, body := range bodies {
			dec := json.NewDecoder(strings.NewReader(examples[i][1]))
			dec.DisallowUnknownFields()
			for dec.More() {
				if err := dec.Decode(body); err != nil {
					t.Errorf("%s: example %d: %v", title, i+1, err)
					break
				}
			}
			for name := range jsonNames(reflect.TypeOf(body)) {
				if !strings.Contains(page[title], `"`+name+`"`) && !strings.Contains(page[title], "`"+name+"`") {
					t.Errorf("%s does not have the field %s", title, name)
				}
			}
		}
	}
}

// jsonNames returns the names of the fields of a type, and of those in it.
func jsonNames(t reflect.Type) map[string]bool {
	names := map[string]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch {
		case t.Kind() == reflect.Pointer, t.Kind() == reflect.Slice:
			walk(t.Elem())
		case t.Kind() != reflect.Struct, reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		default:
			for i := range t.NumField() {
				f := t.Field(i)
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name == "-" || !f.IsExported() {
					continue
				}
				if name != "" {
					names[name] = true
				}
				walk(f.Type)
			}
		}
	}
	walk(t)
	return names
}

// wantRows compares the rows of a table, `name` and what is beside it, with what is so.
func wantRows(t *testing.T, section, text string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, m := range apiRow.FindAllStringSubmatch(text, -1) {
		got[m[1]] = m[2]
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s: %s is %q, want %q", section, name, got[name], v)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s: there is no %s", section, name)
	}
}

func TestAPIErrors(t *testing.T) {
	want := map[string]string{}
	for _, k := range kinds {
		want[k.name] = fmt.Sprint(k.status)
	}
	wantRows(t, "Errors", apiPage(t)["Errors"], want)
}

func TestAPIMetrics(t *testing.T) {
	testenv.NoLeaks(t)
	text, err := Dial(serveHere(t)).Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" {
			want[f[2]] = f[3]
		}
	}
	if len(want) < 20 {
		t.Fatalf("metrics = %s", text)
	}
	wantRows(t, "GET /v1/metrics", apiPage(t)["GET /v1/metrics"], want)
}

// TestAPIEvents takes the types of events from the source.
func TestAPIEvents(t *testing.T) {
	p, err := os.ReadFile("events.go")
	if err != nil {
		t.Fatal(err)
	}
	text := apiPage(t)["GET /v1/events"]
	types := regexp.MustCompile(`(?m)^\tEvent\w+\s+= "(\w+)"`).FindAllStringSubmatch(string(p), -1)
	if rows := regexp.MustCompile("(?m)^\\| `").FindAllString(text, -1); len(types) == 0 || len(rows) != len(types) {
		t.Errorf("the page has %d types of events, the source %d", len(rows), len(types))
	}
	for _, m := range types {
		if !strings.Contains(text, "\n| `"+m[1]+"` |") {
			t.Errorf("the page does not have the event %s", m[1])
		}
	}
}
