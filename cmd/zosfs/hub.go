package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
)

func (a *app) hubCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "hub",
		Short: "Serve images, and manage who may use them",
		Long: `Serve images, and manage who may use them.

  zosfs hub serve --data /srv/hub --listen 127.0.0.1:8080
  zosfs hub token --data /srv/hub --user acme

Exit codes: 0 done, 1 failure, 2 usage, and those of the commands below.`,
		Args: group,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.hubServeCmd(), a.hubTokenCmd())
	return c
}

func (a *app) hubServeCmd() *cobra.Command {
	var data, listen, cert, key string
	c := &cobra.Command{
		Use:   "serve --data DIR --listen ADDRESS",
		Short: "Serve a hub from a directory",
		Long: `Serve a hub: images by name and tag, their blobs, and a page to browse them. All it needs
is the directory, which holds an SQLite database and the blobs. SIGTERM ends it after the
requests under way.

  zosfs hub serve --data /srv/hub --listen 127.0.0.1:8080
  zosfs hub token --data /srv/hub --user acme      then make a token for a user

Exit codes: 0 done, also after a signal, 1 failure, 2 usage, 3 database damaged, 5 directory or address not allowed,
6 another process serves the directory.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.hubServe(c.Context(), data, listen, cert, key) },
	}
	f := c.Flags()
	f.StringVar(&data, "data", "", "directory of the hub; made when it is not there")
	f.StringVar(&listen, "listen", "127.0.0.1:8080", "address to listen on; port 0 takes a free one")
	f.StringVar(&cert, "tls-cert", "", "file of the certificate, to serve HTTPS")
	f.StringVar(&key, "tls-key", "", "file of its key")
	_ = c.MarkFlagRequired("data")
	_ = c.MarkFlagDirname("data")
	return c
}

func (a *app) hubServe(ctx context.Context, data, listen, cert, key string) (err error) {
	if (cert == "") != (key == "") {
		return &usageError{cmd: "zosfs hub serve", err: errors.New("--tls-cert and --tls-key go together")}
	}
	l, err := listenOn(ctx, listen) // before there is a directory
	if err != nil {
		return err
	}
	s, err := hub.New(ctx, hub.Options{Data: data, Log: a.serviceLog(), Version: version, TLSCert: cert, TLSKey: key})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer closing(s, &err)
	scheme := "http"
	if cert != "" {
		scheme = "https"
	}
	url := scheme + "://" + l.Addr().String()
	if a.json {
		if err := a.emit("hub", map[string]any{"url": url, "data": data}); err != nil {
			return err
		}
		if err := a.flush(); err != nil {
			return err
		}
	}
	a.note("hub on %s, data in %s", url, data)
	return s.Serve(ctx, l)
}

// listenOn listens on a TCP address. One that cannot be is a usage error.
func listenOn(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err == nil {
		return l, nil
	}
	bad := errors.Is(err, unix.EADDRNOTAVAIL)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		err = sys.Err
	}
	if e, ok := errors.AsType[*net.AddrError](err); ok {
		err, bad = errors.New(e.Err), true
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		err, bad = errors.New(e.Err), bad || e.IsNotFound
	}
	err = fmt.Errorf("listen on %s: %w", address, err)
	if bad {
		return nil, &usageError{cmd: "zosfs hub serve", err: err}
	}
	return nil, err
}

// flush sends on what was printed so far, for commands that run on.
func (a *app) flush() error {
	if f, ok := a.out.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

func (a *app) hubTokenCmd() *cobra.Command {
	var data, scope string
	var expires time.Duration
	var req hub.TokenRequest
	c := &cobra.Command{
		Use:   "token --data DIR --user NAME",
		Short: "Make a token for a user of a hub",
		Long: `Make a token for a user of a hub, who is made as well when not there, and print it. It is
shown once; the hub keeps only its hash. The hub may run meanwhile. The directory is one that
"zosfs hub serve" has made, or an empty one, which becomes that of a new hub.

  zosfs hub token --data /srv/hub --user acme
  zosfs hub token --data /srv/hub --user ci --scope read --repo acme/debian --expires 720h
  zosfs hub token list --data /srv/hub
  zosfs hub token revoke --data /srv/hub 3

Exit codes: 0 done, 1 failure, 2 usage, 3 database damaged, 4 no hub in the directory, 5 directory not allowed.`,
		Args: group,
		RunE: func(c *cobra.Command, _ []string) error {
			req.Scope = api.Scope(scope)
			if expires != 0 {
				req.Expires = time.Now().Add(expires)
			}
			if err := checkHubData(data); err != nil {
				return err
			}
			secret, info, err := hub.CreateToken(c.Context(), data, req)
			if err != nil {
				return badWords(c.CommandPath(), err)
			}
			if a.json {
				return a.emit("token", map[string]any{"token": secret, "info": info})
			}
			_, err = fmt.Fprintln(a.out, secret)
			return err
		},
	}
	c.PersistentFlags().StringVar(&data, "data", "", "directory of the hub")
	_ = c.MarkPersistentFlagRequired("data")
	f := c.Flags()
	f.StringVar(&req.User, "user", "", "owner of the token, who may write to the repositories NAME/…")
	f.StringVar(&scope, "scope", "write", "what it allows: read, write (and read), or admin")
	f.StringVar(&req.Pattern, "repo", "", "only repositories that match OWNER/NAME, with * as wildcard")
	f.DurationVar(&expires, "expires", 0, "how long it is good; 0 is for ever")
	f.StringVar(&req.Name, "name", "", "what it is for")
	_ = c.MarkFlagRequired("user")
	completeFlag(c, "scope", "read", "write", "admin")
	c.AddCommand(a.hubTokenListCmd(&data), a.hubTokenRevokeCmd(&data))
	return c
}

// hubDatabase is a file in the directory of every hub.
const hubDatabase = "hub.db"

// checkHubData fails unless data is the directory of a hub, or an empty one: a slip of the pen
// makes no hub.
func checkHubData(data string) error {
	entries, err := os.ReadDir(data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isHub := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == hubDatabase })
	if isHub || err == nil && len(entries) == 0 {
		return nil
	}
	return errs.Textf(errs.ErrNotFound, "there is no hub in %s; \"zosfs hub serve --data %[1]s\" makes one", data)
}

func (a *app) hubTokenListCmd(data *string) *cobra.Command {
	var user string
	c := &cobra.Command{
		Use:   "list --data DIR",
		Short: "List the tokens of a hub",
		Long: `List the tokens of a hub, without their secrets.

  zosfs hub token list --data /srv/hub --user acme

Exit codes: 0 done, 1 failure, 2 usage, 3 database damaged, 4 no hub in the directory, 5 directory not allowed.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			tokens, err := hub.ListTokens(c.Context(), *data, user)
			if err != nil {
				return err
			}
			return a.listTokens(tokens)
		},
	}
	c.Flags().StringVar(&user, "user", "", "only those of this user")
	return c
}

func (a *app) listTokens(tokens []api.Token) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(w, "ID\tUSER\tSCOPE\tREPO\tEXPIRES\tLAST USED\tNAME")
	}
	for _, t := range tokens {
		if a.json {
			if err := a.emit("token", t); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.User, t.Scope, t.Pattern, expiry(t), date(t.LastUsed), t.Name)
	}
	return w.Flush()
}

// expiry says until when a token is good.
func expiry(t api.Token) string {
	if t.Revoked != nil {
		return "revoked"
	}
	return date(t.Expires)
}

func date(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Format(time.DateTime)
}

func (a *app) hubTokenRevokeCmd(data *string) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke --data DIR ID",
		Short: "Make a token of a hub worthless",
		Long: `Make a token of a hub worthless, from its next use on.

  zosfs hub token revoke --data /srv/hub 3

Exit codes: 0 done, 1 failure, 2 usage, 3 database damaged, 4 no such token, or no hub in the directory, 5 directory not allowed.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			id, err := strconv.ParseInt(given[0], 10, 64)
			if err != nil {
				return usage(c, fmt.Errorf("token %q: want the number that \"zosfs hub token list\" shows", given[0]))
			}
			if err := hub.RevokeToken(c.Context(), *data, id); err != nil {
				return err
			}
			if a.json {
				return a.emit("revoked", map[string]any{"id": id})
			}
			a.note("token %d is revoked", id)
			return nil
		},
	}
}
