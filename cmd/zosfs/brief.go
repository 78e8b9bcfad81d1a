package main

import (
	"regexp"
	"strings"
)

// fullDigest is a digest that is no part of a path.
var fullDigest = regexp.MustCompile(`(^|[^/0-9a-zA-Z])([0-9a-f]{12})[0-9a-f]{52}\b`)

// mention is a blob that an error is said to be about.
var mention = regexp.MustCompile(`(?:\b[a-z]+ )?blob ([0-9a-f]{64})(?:, -?\d+ bytes at \d+)?: `)

// brief shortens what an error says for a person: each layer names the blob, the first is
// enough; and 12 digits of a digest are. With --json the errors are whole.
func brief(text string) string {
	var b strings.Builder
	last := 0
	for _, m := range mention.FindAllStringSubmatchIndex(text, -1) {
		if strings.Contains(text[:m[0]], text[m[2]:m[3]]) {
			b.WriteString(text[last:m[0]])
			last = m[1]
		}
	}
	b.WriteString(text[last:])
	return fullDigest.ReplaceAllString(b.String(), "$1$2…")
}
