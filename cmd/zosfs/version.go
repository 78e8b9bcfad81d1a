package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version of the program and of the formats it writes.

  zosfs version --json

Exit codes: 0 done, 1 failure, 2 usage.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.emit("version", map[string]any{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "flist": 1, "blob": 1})
			}
			_, err := fmt.Fprintf(a.out, "zosfs %s (%s, %s/%s), flist 1, blob 1\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
