package credentials

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
)

const (
	hubA = "https://a.example"
	hubB = "http://127.0.0.1:8080"
)

// env sets the environment for a test and returns the path of its file.
func env(t *testing.T, hub, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sub", "credentials.json")
	t.Setenv(EnvFile, path)
	t.Setenv(EnvHub, hub)
	t.Setenv(EnvToken, token)
	return path
}

func load(t *testing.T) *File {
	t.Helper()
	f, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSaveLoad(t *testing.T) {
	path := env(t, "", "")
	f := load(t)
	if f.Default() != "" || f.Token(hubA) != "" || len(f.Hubs()) != 0 {
		t.Errorf("without a file: default %q, token %q, hubs %v; want nothing", f.Default(), f.Token(hubA), f.Hubs())
	}
	for _, err := range []error{f.Set("HTTPS://A.example:443/", "secret-a"), f.Set(hubB, "secret-b"), f.SetDefault(hubB), f.Save()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(p); err != nil || info.Mode() != want {
			t.Errorf("Stat(%s) = %v, %v; want mode %v", p, info.Mode(), err, want)
		}
	}
	f = load(t)
	got := []string{f.Default(), f.Token(hubA), f.Token(hubB), strings.Join(f.Hubs(), " ")}
	if diff := cmp.Diff([]string{hubB, "secret-a", "secret-b", hubB + " " + hubA}, got); diff != "" {
		t.Errorf("after Save and Load (-want +got):\n%s", diff)
	}
	if !f.Remove(hubA) || f.Remove(hubA) {
		t.Error("Remove reports true once, then false; it did not")
	}
	if err := errors.Join(f.SetDefault(""), f.Save()); err != nil {
		t.Fatal(err)
	}
	if f = load(t); f.Token(hubA) != "" || f.Default() != "" || f.Token(hubB) != "secret-b" {
		t.Errorf("after Remove: tokens %q, %q, default %q", f.Token(hubA), f.Token(hubB), f.Default())
	}
}

// TestToken has the rules of who is shown which token.
func TestToken(t *testing.T) {
	const stranger = "https://stranger.example"
	tests := []struct {
		name                 string
		envHub, envToken     string
		def, fileHub         string // the file has the token "file" for fileHub
		ask, token, known    string
		override, overridden string
	}{
		{name: "file", fileHub: hubA, ask: hubA, token: "file", known: "file"},
		{name: "file, another form of the URL", fileHub: hubA, ask: "https://A.EXAMPLE:443", token: "file", known: "file"},
		{name: "file, stranger", fileHub: hubA, ask: stranger},
		{name: "https token is not for http", fileHub: hubA, ask: "http://a.example"},
		{name: "env, nothing known", envToken: "env", ask: hubA, token: "env"},
		{name: "env, for ZOSFS_HUB", envToken: "env", envHub: hubA, ask: hubA, token: "env", known: "env"},
		{name: "env, for ZOSFS_HUB, stranger", envToken: "env", envHub: hubA, ask: stranger},
		{name: "env, for the default", envToken: "env", def: hubA, ask: hubA, token: "env", known: "env"},
		{name: "env, for the default, stranger", envToken: "env", def: hubA, ask: stranger},
		{name: "env goes before file", envToken: "env", def: hubA, fileHub: hubA, ask: hubA, token: "env", known: "env"},
		{name: "env, file knows another, stranger", envToken: "env", fileHub: hubA, ask: stranger},
		{name: "env, file knows the asked one", envToken: "env", fileHub: hubA, ask: hubA, token: "file", known: "file"},
		{name: "ZOSFS_HUB goes before default", envToken: "env", envHub: hubB, def: hubA, ask: hubA},
		{name: "override", envToken: "env", def: hubA, fileHub: hubA, override: hubA, overridden: "over", ask: hubA, token: "over", known: "over"},
		{name: "override of another", override: hubB, overridden: "over", ask: hubA},
		{name: "not a hub, nothing known", envToken: "env", ask: ""},
		{name: "not a hub", envToken: "env", fileHub: hubA, ask: "file:///etc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env(t, tt.envHub, tt.envToken)
			f := load(t)
			err := f.SetDefault(tt.def)
			if tt.fileHub != "" {
				err = errors.Join(err, f.Set(tt.fileHub, "file"))
			}
			if err = errors.Join(err, f.Save()); err != nil {
				t.Fatal(err)
			}
			if f, err = load(t).With(tt.override, tt.overridden); err != nil {
				t.Fatal(err)
			}
			if got := f.Token(tt.ask); got != tt.token {
				t.Errorf("Token(%s) = %q, want %q", tt.ask, got, tt.token)
			}
			if got := f.Known(tt.ask); got != tt.known {
				t.Errorf("Known(%s) = %q, want %q", tt.ask, got, tt.known)
			}
		})
	}
}

func TestEnvironmentIsNotSaved(t *testing.T) {
	path := env(t, hubA, "from-env")
	f, err := load(t).With(hubB, "from-request")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Set(hubB, "file"), f.Save()); err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(p), "from-") || strings.Contains(string(p), hubA) {
		t.Errorf("Save wrote what the environment said:\n%s", p)
	}
}

func TestNil(t *testing.T) {
	var f *File
	if f.Token(hubA) != "" || f.Known(hubA) != "" || f.Default() != "" || f.Hubs() != nil {
		t.Error("a nil File knows something")
	}
	if f, err := f.With(hubA, "x"); err != nil || f.Token(hubA) != "x" {
		t.Errorf("With of a nil File: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	const good = `{"hubs":{"https://a.example":{"token":"hidden"}}}`
	tests := []struct {
		name, content string
		perm          fs.FileMode
		want          error
		text          string
	}{
		{"readable by others", good, 0o644, fs.ErrPermission, "chmod 600"},
		{"writable by the group", good, 0o620, fs.ErrPermission, "chmod 600"},
		{"not JSON", `{"hubs":{"https://a.example":{"token":hidden}}}`, 0o600, errs.ErrFormat, "not the JSON"},
		{"wrong type", `{"hubs":{"https://a.example":"hidden"}}`, 0o600, errs.ErrFormat, "not the JSON"},
		{"empty", ``, 0o600, errs.ErrFormat, "not the JSON"},
		{"empty token", `{"hubs":{"https://a.example":{"token":""}}}`, 0o600, errs.ErrFormat, "0 bytes"},
		{"header in the token", `{"hubs":{"https://a.example":{"token":"hidden\r\nX: y"}}}`, 0o600, errs.ErrFormat, "blanks"},
		{"hub in another form", `{"hubs":{"https://A.example/":{"token":"hidden"}}}`, 0o600, errs.ErrFormat, "want it written as https://a.example"},
		{"no hub", `{"hubs":{"a.example":{"token":"hidden"}}}`, 0o600, errs.ErrFormat, "want http(s)"},
		{"default is none", `{"default":"file:///etc"}`, 0o600, errs.ErrFormat, "default"},
		{"large", good + strings.Repeat(" ", maxFile), 0o600, errs.ErrFormat, "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := env(t, "", "")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.content), tt.perm); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.perm); err != nil { // whatever the umask is
				t.Fatal(err)
			}
			_, err := Load()
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("Load() = %v, want %v with %q", err, tt.want, tt.text)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("Load() = %v, which shows the token", err)
			}
		})
	}
}

func TestLoadRefusesEnvironment(t *testing.T) {
	for _, tt := range []struct{ hub, token string }{{"not-a-hub", ""}, {"", "two words"}, {hubA, "ü"}} {
		env(t, tt.hub, tt.token)
		if _, err := Load(); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("Load() with hub %q and token %q = %v, want %v", tt.hub, tt.token, err, errs.ErrFormat)
		}
	}
}

func TestLoadRefusesFIFO(t *testing.T) {
	path := env(t, "", "")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Load() of a fifo = %v, want %v", err, errs.ErrFormat)
	}
}

func TestPath(t *testing.T) {
	t.Setenv(EnvFile, "")
	t.Setenv("XDG_CONFIG_HOME", "/somewhere")
	if got, err := Path(); err != nil || got != "/somewhere/zosfs/credentials.json" {
		t.Errorf("Path() = %q, %v; want it below XDG_CONFIG_HOME", got, err)
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "/home/u")
	if got, err := Path(); err != nil || got != "/home/u/.config/zosfs/credentials.json" {
		t.Errorf("Path() = %q, %v; want it in ~/.config", got, err)
	}
	t.Setenv("HOME", "")
	t.Setenv(EnvToken, "t")
	t.Setenv(EnvHub, "")
	if f, err := Load(); err != nil || f.Token(hubA) != "t" {
		t.Errorf("Load() without a home: %v; want the environment to work", err)
	}
}

func TestHub(t *testing.T) {
	tests := []struct{ in, want string }{
		{"https://hub.example", "https://hub.example"},
		{"HTTPS://Hub.Example:443/", "https://hub.example"},
		{"http://hub.example:443", "http://hub.example:443"},
		{"http://127.0.0.1:80", "http://127.0.0.1"},
		{"http://[::1]:8080/", "http://[::1]:8080"},
		{"https://[2001:DB8::1]:443", "https://[2001:db8::1]"},
		{"", ""},
		{"hub.example", ""},
		{"ftp://hub.example", ""},
		{"http://", ""},
		{"http://:80", ""},
		{"http:hub.example", ""},
		{"https://hub.example/path", ""},
		{"https://hub.example/?q", ""},
		{"https://hub.example?", ""},
		{"https://hub.example/#f", ""},
		{"https://user:hidden@hub.example", ""},
		{"https://hidden@hub.example\x7f", ""},
	}
	for _, tt := range tests {
		got, err := Hub(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("Hub(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if err != nil && (!errors.Is(err, errs.ErrFormat) || strings.Contains(err.Error(), ":hidden")) {
			t.Errorf("Hub(%q) = %v, want %v and no secret", tt.in, err, errs.ErrFormat)
		}
	}
}

func FuzzHub(f *testing.F) {
	for _, s := range []string{hubA, hubB, "https://[::1]:1/", "http://u:p@h", "https://h%2f", "http://h:080"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		hub, err := Hub(s)
		if err != nil {
			return
		}
		if again, err := Hub(hub); err != nil || again != hub {
			t.Errorf("Hub(%q) = %q, but Hub of that = %q, %v", s, hub, again, err)
		}
	})
}

func TestTokenName(t *testing.T) {
	t.Setenv(EnvFile, filepath.Join(t.TempDir(), "c.json"))
	t.Setenv(EnvHub, "https://default.example")
	t.Setenv(EnvToken, "from-env")
	f, err := Load()
	if err == nil {
		err = f.Set("https://other.example", "from-file")
	}
	if err != nil {
		t.Fatal(err)
	}
	given, err := f.With("https://default.example", "given")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f         *File
		hub, want string
	}{
		{f, "https://default.example", "the token in ZOSFS_TOKEN"},
		{f, "https://other.example", ""},
		{f, "https://nobody.example", ""},
		{given, "https://default.example", ""},
		{nil, "https://default.example", ""},
	} {
		if got := c.f.TokenName(c.hub); got != c.want {
			t.Errorf("TokenName(%s) = %q, want %q", c.hub, got, c.want)
		}
	}
}
