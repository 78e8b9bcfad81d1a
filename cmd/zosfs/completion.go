package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/ref"
)

// bashFallback does what the script needs of the package bash-completion where that is not
// there, as on a bare Debian.
//
//go:embed completion.bash
var bashFallback string

func (a *app) completionCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "completion",
		Short: "Print what makes a shell complete the commands",
		Long: `Print a script for a shell, after which that completes commands, flags, references that
were opened here before, files, and mount points. Completing asks no hub.

  zosfs completion bash > /etc/bash_completion.d/zosfs
  zosfs completion zsh > "${fpath[1]}/_zosfs"
  zosfs completion fish > ~/.config/fish/completions/zosfs.fish

Exit codes: 0 done, 1 failure, 2 usage, 130 interrupted.`,
		Args: group,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, shell := range []struct {
		name, stay, now string
		write           func(root *cobra.Command) error
	}{
		{"bash", "/etc/bash_completion.d/zosfs", "source <(zosfs completion bash)", func(root *cobra.Command) error {
			if _, err := fmt.Fprint(a.out, bashFallback); err != nil {
				return err
			}
			return root.GenBashCompletionV2(a.out, true)
		}},
		{"zsh", `"${fpath[1]}/_zosfs"`, "source <(zosfs completion zsh)", func(root *cobra.Command) error { return root.GenZshCompletion(a.out) }},
		{"fish", "~/.config/fish/completions/zosfs.fish", "zosfs completion fish | source", func(root *cobra.Command) error { return root.GenFishCompletion(a.out, true) }},
	} {
		c.AddCommand(&cobra.Command{
			Use:   shell.name,
			Short: "Print the script for " + shell.name,
			Long: fmt.Sprintf(`Print the script for %[1]s: for every new shell, or for the one that runs.

  zosfs completion %[1]s > %[2]s
  %[3]s

Exit codes: 0 done, 1 failure, 2 usage, 130 interrupted.`, shell.name, shell.stay, shell.now),
			Args: args(cobra.NoArgs),
			RunE: func(c *cobra.Command, _ []string) error { return shell.write(c.Root()) },
		})
	}
	return c
}

// completeArgs has the arguments of a command, and of those below it, completed after what its
// usage calls them.
func (a *app) completeArgs(c *cobra.Command) {
	for _, sub := range c.Commands() {
		a.completeArgs(sub)
	}
	if c.ValidArgsFunction != nil || c.HasSubCommands() {
		return
	}
	words := strings.Fields(c.Use)[1:]
	if strings.Contains(c.Use, "--") {
		words = nil // flags are completed elsewhere
	}
	c.ValidArgsFunction = func(_ *cobra.Command, given []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(words) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		word := words[min(len(given), len(words)-1)]
		if len(given) >= len(words) && !strings.Contains(strings.Join(words, " "), "...") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		switch strings.Trim(word, "[].") {
		case "REF", "DEST", "A", "B":
			return a.completeRef(begun)
		case "DIR", "SOURCE":
			return nil, cobra.ShellCompDirectiveFilterDirs
		case "HUB":
			return completeHub()
		}
		return nil, cobra.ShellCompDirectiveNoFileComp // a path in an image is none here
	}
}

// completeRef offers flists, directories on the way to them, and what was opened before.
func (a *app) completeRef(begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	a.place()
	directive := cobra.ShellCompDirectiveNoFileComp
	var offers []cobra.Completion
	dir, base := filepath.Split(begun)
	entries, _ := os.ReadDir(cmp.Or(dir, ".")) // what cannot be read offers nothing
	onlyDirs := true
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base) || strings.HasPrefix(name, ".") && !strings.HasPrefix(base, ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, name)) // of what a symlink leads to
		switch {
		case err == nil && info.IsDir():
			offers = append(offers, dir+name+"/")
		case strings.HasSuffix(name, ".flist"), strings.HasSuffix(name, ".fl"):
			offers, onlyDirs = append(offers, dir+name), false
		}
	}
	for _, name := range a.knownRefs() {
		if strings.HasPrefix(name, begun) {
			offers, onlyDirs = append(offers, name), false
		}
	}
	if len(offers) > 0 && onlyDirs {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return offers, directive
}

// knownRefs returns what was opened before, as one would write it.
func (a *app) knownRefs() []string {
	hub := ""
	if creds, err := credentials.Load(); err == nil {
		hub = creds.Default()
	}
	var names []string
	for _, r := range ref.Known(a.dirs.Cache) {
		names = append(names, r.String())
		if r.Hub == hub {
			names = append(names, strings.TrimPrefix(r.String(), hub+"/"))
		}
	}
	slices.Sort(names)
	return names
}

func completeHub() ([]cobra.Completion, cobra.ShellCompDirective) {
	creds, err := credentials.Load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return creds.Hubs(), cobra.ShellCompDirectiveNoFileComp
}

// mountPoints completes with the directories of our mounts, as the kernel knows them.
func mountPoints(_ *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, err := mount.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var dirs []cobra.Completion
	for _, m := range all {
		if !slices.Contains(given, m.Dir) {
			dirs = append(dirs, m.Dir)
		}
	}
	return dirs, cobra.ShellCompDirectiveNoFileComp
}

// completeFlag offers values for a flag, which has been added before.
func completeFlag(c *cobra.Command, name string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}
