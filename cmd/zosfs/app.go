package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/node"
	"github.com/zosfs/zosfs/ref"
)

// version is set by the linker to what `git describe` says.
var version = "dev"

// streams are what a command talks to; tests give their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// app is what all commands share.
type app struct {
	streams
	json  bool
	quiet bool
	debug bool
	ran   bool   // whether a command was begun: errors before that are about the command line
	cache string // directory; "" is the default
	dirs  node.Dirs
	now   func() time.Time // the clock; tests set it
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	out := bufio.NewWriterSize(s.out, 64<<10)
	a := &app{streams: streams{in: s.in, out: out, err: s.err}, now: time.Now}
	root := a.root()
	a.json = slices.Contains(args, "--json") // for errors in the command line itself
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(out)
	root.SetErr(s.err)
	cmd, err := root.ExecuteContextC(ctx)
	if ferr := out.Flush(); err == nil && ferr != nil {
		err = fmt.Errorf("write output: %w", ferr)
	}
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		err = interrupted{err}
	case !a.ran:
		err = usage(cmd, err)
	}
	a.report(err)
	return exitCode(err)
}

const rootLong = `ZOS-FS splits an image into an flist (everything about a tree but its content) and
content-addressed, compressed blobs on a hub. Mount an flist and the whole tree is there
at once; content is fetched when it is read, verified, cached and shared by all images.

  zosfs pack ./debian http://127.0.0.1:8080/acme/debian:12     pack and publish
  zosfs mount http://127.0.0.1:8080/acme/debian:12 /mnt        mount it anywhere
  zosfs cat acme/debian:12 /etc/os-release                     or take one file

REF is the path of an flist (it ends in .flist or begins with /, ./ or ../), the URL of
one on a hub (http://hub/acme/debian:12, or @DIGEST), or OWNER/NAME:TAG on the default hub
(ZOSFS_HUB, or the hub of "zosfs login").

ZOSFS_HUB names the default hub, ZOSFS_TOKEN is a token for it, ZOSFS_CREDENTIALS the file
of tokens that login keeps; ZOSFS_CACHE and ZOSFS_STATE are the directories of the node.

Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 failure, 2 usage, 3 data
damaged, 4 not found, 5 denied, 6 unavailable, 130 interrupted.`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "zosfs",
		Short:             "Lazy, deduplicated images: pack, publish, mount",
		Long:              rootLong,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              group,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRun:  func(*cobra.Command, []string) { a.place() },
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // we have our own
	}
	root.SetVersionTemplate("zosfs {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, err) })
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print JSON: one object, or one a line; errors too, on stderr")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no remarks")
	f.BoolVar(&a.debug, "debug", false, "log what is done, on stderr")
	f.StringVar(&a.cache, "cache", "", "cache directory (default $ZOSFS_CACHE, else /var/cache/zosfs for root, XDG for others)")
	_ = root.MarkPersistentFlagDirname("cache")
	root.AddCommand(
		a.packCmd(), a.unpackCmd(), a.mountCmd(), a.umountCmd(), a.statusCmd(),
		a.lsCmd(), a.treeCmd(), a.findCmd(), a.statCmd(), a.catCmd(), a.inspectCmd(), a.verifyCmd(),
		a.diffCmd(), a.duCmd(), a.mergeCmd(), a.commitCmd(), a.rollbackCmd(),
		a.cacheCmd(), a.loginCmd(), a.logoutCmd(), a.hubCmd(), a.nodeCmd(), a.versionCmd(), a.completionCmd(),
	)
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Args, c.Long = helpTopic, helpLong
		}
		a.completeArgs(c)
	}
	a.watch(root)
	return root
}

// place sets the directories of the node.
func (a *app) place() {
	a.dirs = node.DefaultDirs()
	if a.cache != "" {
		a.dirs.Cache = a.cache
	}
}

// watch notes when a command begins.
func (a *app) watch(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, given []string) error {
			a.ran = true
			return run(c, given)
		}
	}
	for _, sub := range c.Commands() {
		a.watch(sub)
	}
}

// args wraps a check of arguments so that its failure is a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := check(c, given); err != nil {
			return usage(c, fmt.Errorf("want %q, have %s", c.CommandPath()+strings.TrimPrefix(c.Use, c.Name()), count(len(given), "argument")))
		}
		return nil
	}
}

// group is the check of arguments of a command that has others below it.
func group(c *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q", given[0])
	if c.HasParent() {
		text += fmt.Sprintf(" of %q", c.CommandPath())
	}
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(given[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage(c, errors.New(text))
}

const helpLong = `Show the help of a command.

  zosfs help mount

Exit codes: 0 done, 1 failure, 2 usage.`

// helpTopic checks that there is such a command.
func helpTopic(c *cobra.Command, given []string) error {
	found, rest, err := c.Root().Find(given)
	if err != nil || len(rest) == 0 {
		return err
	}
	return group(found, rest)
}

// report tells a person, or a program with --json, what went wrong.
func (a *app) report(err error) {
	if all, ok := errors.AsType[several](err); ok {
		for _, err := range all {
			a.report(err)
		}
		return
	}
	if a.json {
		_ = json.NewEncoder(a.err).Encode(map[string]any{"type": "error", "code": exitCode(err), "message": err.Error()})
		return
	}
	for i, line := range strings.Split(brief(err.Error()), "\n") {
		prefix := "zosfs: "
		if i > 0 {
			prefix = "  "
		}
		fmt.Fprintf(a.err, "%s%s\n", prefix, term.Printable([]byte(line)))
	}
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(a.err, "zosfs: %s\n", hint)
	}
}

// note tells a person something that is no data and no error.
func (a *app) note(format string, args ...any) {
	if !a.quiet && !a.json {
		fmt.Fprintf(a.err, "zosfs: %s\n", term.Printable(fmt.Appendf(nil, format, args...)))
	}
}

// noteList says what befell paths, of which there are count and perhaps fewer listed.
func (a *app) noteList(what string, paths []string, count int64) {
	for _, p := range paths {
		a.note("%s: %s", what, p)
	}
	if more := count - int64(len(paths)); more > 0 {
		a.note("%s: %d more", what, more)
	}
}

// emit prints one JSON object with its type.
func (a *app) emit(kind string, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(p) < 2 || p[0] != '{' {
		return fmt.Errorf("print %s: not an object", kind)
	}
	sep := ","
	if len(p) == 2 {
		sep = ""
	}
	_, err = fmt.Fprintf(a.out, "{\"type\":%q%s%s\n", kind, sep, p[1:])
	return err
}

// log is for commands that say themselves what went wrong: it is silent, unless --debug.
func (a *app) log() *slog.Logger {
	if !a.debug {
		return slog.New(slog.DiscardHandler)
	}
	return a.serviceLog()
}

// serviceLog is for commands that run on, and tell of what happens meanwhile.
func (a *app) serviceLog() *slog.Logger {
	level := slog.LevelWarn
	switch {
	case a.debug:
		level = slog.LevelDebug
	case a.quiet:
		level = slog.LevelError
	}
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level}))
}

// progress shows how far long work is; unit is what it counts, "" for files.
func (a *app) progress(title, unit string) *term.Progress {
	return term.NewProgress(a.err, title, term.Options{Quiet: a.quiet, JSON: a.json, Unit: unit})
}

// ref parses a REF and loads the credentials that go with it.
func (a *app) ref(s string) (ref.Ref, *credentials.File, error) {
	creds, err := credentials.Load()
	if err != nil {
		return ref.Ref{}, nil, err
	}
	r, err := ref.Parse(s, creds.Default())
	if err != nil {
		if st, serr := os.Stat(s); serr == nil && st.IsDir() {
			err = fmt.Errorf("%s is a directory, not an flist", s)
		} else if serr == nil {
			err = fmt.Errorf("%w; there is a file of that name: write ./%s", err, s)
		}
		return r, creds, &usageError{cmd: "zosfs", err: err}
	}
	return r, creds, nil
}
