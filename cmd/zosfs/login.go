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

Exit codes: 0 done, 1 failure, 2 usage, 3 credentials file damaged, 5 the hub refused the token, or the credentials file
is open to others, 6 hub unavailable, 130 interrupted.`,
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
	token, name, err := a.readToken()
	if err != nil {
		return err
	}
	begin := a.now()
	who, err := whoami(ctx, hub, token, name)
	if _, ok := errors.AsType[*remote.UnreachableError](err); ok {
		return fmt.Errorf("%w (waited %v)", err, a.now().Sub(begin).Round(100*time.Millisecond))
	}
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
func whoami(ctx context.Context, hub, token, name string) (api.Whoami, error) {
	client, err := remote.New(remote.Options{URL: hub, Token: token, TokenName: name})
	if err != nil {
		return api.Whoami{}, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	late := errs.Textf(errs.ErrUnavailable, "no answer within %v", loginPatience)
	for {
		who, err := client.Whoami(ctx)
		switch {
		case ctx.Err() != nil:
			return who, late
		case !errors.Is(err, errs.ErrUnavailable):
			return who, err
		}
		late = err // which says more
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return who, late
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

Exit codes: 0 done, 1 failure, 2 usage, 3 credentials file damaged, 4 no token of that hub is known, 5 the credentials
file is open to others.`,
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
				return errs.Textf(errs.ErrNotFound, "no token of %s is known", hub)
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

// readToken returns a token, and what to call it when it is refused.
func (a *app) readToken() (token, name string, err error) {
	if t := os.Getenv(credentials.EnvToken); t != "" {
		return t, "the token in " + credentials.EnvToken, nil
	}
	if f, ok := a.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.err, "token: ")
		p, err := term.ReadPassword(int(f.Fd()))
		_, _ = fmt.Fprintln(a.err)
		return strings.TrimSpace(string(p)), "this token", err
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
	if token := strings.TrimSpace(line); token != "" {
		return token, "this token", nil
	}
	return "", "", fmt.Errorf("no token: set %s or give one on stdin (%w)", credentials.EnvToken, err)
}
