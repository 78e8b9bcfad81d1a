package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/store/remote"
)

func (a *app) loginCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "login HUB",
		Short: "Keep a token for a hub and make it the default hub",
		Long: `Keep a token for a hub, after asking the hub whether it is good, and make that hub the
default one. The token is read from ZOSFS_TOKEN, else from stdin; at a terminal it is asked
for and not shown. An operator makes tokens with "zosfs hub token".

  zosfs login http://127.0.0.1:8080
  zosfs hub token --data /srv/hub --user acme | zosfs login https://hub.example

Exit codes: 0 done, 1 failure, 2 usage, 5 the hub does not know the token, 6 hub unavailable.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.login(c.Context(), given[0])
		},
	}
}

func (a *app) login(ctx context.Context, hub string) error {
	hub, err := credentials.Hub(hub)
	if err != nil {
		return &usageError{cmd: "zosfs login", err: err}
	}
	token, err := a.readToken()
	if err != nil {
		return err
	}
	who, err := whoami(ctx, hub, token)
	if err != nil {
		return fmt.Errorf("log in to %s: %w", hub, err)
	}
	creds, err := credentials.Load()
	if err != nil {
		return err
	}
	if err := errors.Join(creds.Set(hub, token), creds.SetDefault(hub)); err != nil {
		return err
	}
	if err := creds.Save(); err != nil {
		return err
	}
	if a.json {
		return a.emit("login", map[string]any{"hub": hub, "user": who.User, "scope": who.Scope})
	}
	a.note("logged in to %s as %s, may %s", hub, who.User, who.Scope)
	return nil
}

// loginPatience is how long a hub may take to come up: scripts start one and log in at once.
const loginPatience = 5 * time.Second

// whoami asks a hub whose token it is.
func whoami(ctx context.Context, hub, token string) (api.Whoami, error) {
	client, err := remote.New(remote.Options{URL: hub, Token: token})
	if err != nil {
		return api.Whoami{}, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	for {
		who, err := client.Whoami(ctx)
		if !errors.Is(err, errs.ErrUnavailable) {
			return who, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return who, err
		}
	}
}

func (a *app) logoutCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "logout HUB",
		Short: "Forget the token of a hub",
		Long: `Forget the token of a hub on this machine. The token itself stays good: an operator makes
it worthless with "zosfs hub token revoke".

  zosfs logout http://127.0.0.1:8080

Exit codes: 0 done, 1 failure, 2 usage, 4 no token of that hub is known.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, given []string) error {
			hub, err := credentials.Hub(given[0])
			if err != nil {
				return &usageError{cmd: "zosfs logout", err: err}
			}
			creds, err := credentials.Load()
			if err != nil {
				return err
			}
			if !creds.Remove(hub) {
				return fmt.Errorf("no token of %s is known: %w", hub, errs.ErrNotFound)
			}
			if err := creds.Save(); err != nil {
				return err
			}
			if a.json {
				return a.emit("logout", map[string]any{"hub": hub})
			}
			a.note("forgot the token of %s", hub)
			return nil
		},
	}
}

func (a *app) readToken() (string, error) {
	if t := os.Getenv("ZOSFS_TOKEN"); t != "" {
		return t, nil
	}
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.err, "token: ")
		p, err := term.ReadPassword(int(f.Fd()))
		_, _ = fmt.Fprintln(a.err)
		return strings.TrimSpace(string(p)), err
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
	if token := strings.TrimSpace(line); token != "" {
		return token, nil
	}
	return "", fmt.Errorf("no token: set ZOSFS_TOKEN or give one on stdin (%w)", err)
}
