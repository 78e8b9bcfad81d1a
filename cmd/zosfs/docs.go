package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go test -count=1 -run ^TestDocs$ . -update

// writeDocs writes docs/cli.md: every command with its help and flags. A test compares the
// file with it, so the page is always true.
func writeDocs(w io.Writer) error {
	a := &app{}
	root := a.root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var b strings.Builder
	b.WriteString(`# Command line

This page is generated from the program's own help ("make docs").

Data goes to stdout; messages, prompts and progress go to stderr, prefixed "zosfs:". With
--json a command prints one object, or one a line for a list, each with a "type"; fields are
only ever added; errors are then objects on stderr with "type":"error", "code" and "message".
Progress is shown on terminals alone. NO_COLOR is obeyed.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failure |
| 2 | usage |
| 3 | data damaged, or not of a format that this version reads |
| 4 | not found |
| 5 | denied |
| 6 | unavailable |
| 130 | interrupted |

| variable | meaning |
|---|---|
| ZOSFS_HUB | default hub, for references such as acme/debian:12 |
| ZOSFS_TOKEN | token for the default hub |
| ZOSFS_CREDENTIALS | file of the tokens that "zosfs login" keeps |
| ZOSFS_CACHE | cache directory of the node |
| ZOSFS_STATE | directory of the node service: socket, log |

Completion for bash, zsh and fish: "zosfs completion bash --help" and so on.

`)
	document(&b, root)
	_, err := io.WriteString(w, b.String())
	return err
}

func document(b *strings.Builder, c *cobra.Command) {
	if c.Hidden || c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" {
		return
	}
	fmt.Fprintf(b, "## %s\n\n", c.CommandPath())
	text := c.Long
	if text == "" {
		text = c.Short
	}
	if c.Runnable() {
		fmt.Fprintf(b, "```\n%s\n```\n\n", c.UseLine())
	}
	fmt.Fprintf(b, "```text\n%s\n```\n\n", strings.TrimSpace(text))
	if table := flagTable(c.NonInheritedFlags()); table != "" {
		b.WriteString(table + "\n")
	}
	for _, sub := range c.Commands() {
		document(b, sub)
	}
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if t := f.Value.Type(); t != "bool" {
			name += " " + strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(t, "Array"), "Slice"))
		}
		use := strings.ReplaceAll(f.Usage, "|", "\\|")
		if d := f.DefValue; d != "" && d != "false" && d != "0" && d != "[]" && d != "0s" {
			use += " (default " + d + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, use)
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | meaning |\n|---|---|\n" + b.String()
}
