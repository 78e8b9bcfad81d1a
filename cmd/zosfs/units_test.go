package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/node"
)

// directives are those that the units use, by section, as systemd.unit(5), systemd.service(5),
// systemd.exec(5), systemd.kill(5) and systemd.socket(5) have them, with what they may be.
var directives = map[string]map[string]string{
	"Unit": {
		"Description": `.+`, "Documentation": `(https|man):\S+`, "Requires": `\S+`, "After": `.+`, "RequiresMountsFor": `/.+`,
	},
	"Service": {
		"Type": `simple|exec|forking|oneshot|dbus|notify|notify-reload|idle`, "NotifyAccess": `none|main|exec|all`,
		"ExecStart": `/.+`, "EnvironmentFile": `-?/.+`, "Restart": `no|on-success|on-failure|on-abnormal|on-watchdog|on-abort|always`,
		"RestartSec": `\d+s`, "WatchdogSec": `\d+s`, "TimeoutStopSec": `\d+s`, "KillMode": `control-group|mixed|process|none`,
		"LimitNOFILE": `\d+|infinity`, "OOMScoreAdjust": `-?\d{1,3}|-?1000`,
	},
	"Socket":  {"ListenStream": `/.+`, "SocketMode": `0[0-7]{3}`, "DirectoryMode": `0[0-7]{3}`, "RemoveOnStop": `yes|no`},
	"Install": {"WantedBy": `\S+\.target`, "Also": `\S+`},
}

// readUnit returns the values of a unit file by "Section.Directive".
func readUnit(t *testing.T, name string) map[string]string {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("../../contrib/systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	unit, section := map[string]string{}, ""
	for i, line := range strings.Split(string(p), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			section = strings.Trim(line, "[]")
			if directives[section] == nil {
				t.Errorf("%s:%d: unknown section %q", name, i+1, section)
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if want, known := directives[section][key]; !ok || !known || !regexp.MustCompile("^("+want+")$").MatchString(value) {
			t.Errorf("%s:%d: %q is not known in section %s, or has a wrong value", name, i+1, line, section)
		}
		if _, twice := unit[section+"."+key]; twice {
			t.Errorf("%s:%d: %s is there twice", name, i+1, key)
		}
		unit[section+"."+key] = value
	}
	return unit
}

// TestUnits reads the unit files as systemd would, and compares them with the program.
func TestUnits(t *testing.T) {
	service, socket := readUnit(t, "zosfs-node.service"), readUnit(t, "zosfs-node.socket")
	for key, want := range map[string]string{
		"Service.Type": "notify", "Service.NotifyAccess": "main", "Service.KillMode": "process",
		"Service.Restart": "on-failure", "Service.OOMScoreAdjust": "-900", "Unit.Requires": "zosfs-node.socket",
		"Install.Also": "zosfs-node.socket",
	} {
		if service[key] != want {
			t.Errorf("%s = %q, want %q", key, service[key], want)
		}
	}
	words := strings.Fields(service["Service.ExecStart"])
	if filepath.Base(words[0]) != "zosfs" {
		t.Fatalf("ExecStart runs %s", words[0])
	}
	c, rest, err := (&app{}).root().Find(words[1:])
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err == nil {
		err = c.ValidateArgs(c.Flags().Args())
	}
	if err != nil || c.CommandPath() != "zosfs node" {
		t.Errorf("%q is %q, %v", words, c.CommandPath(), err)
	}
	if socket["Socket.SocketMode"] != "0600" || !slices.Contains([]string{"0700", "0755"}, socket["Socket.DirectoryMode"]) {
		t.Errorf("modes of the socket = %v", socket)
	}
	if os.Geteuid() == 0 {
		t.Setenv(node.EnvState, "")
		if want := filepath.Join(node.DefaultDirs().State, "node.sock"); socket["Socket.ListenStream"] != want {
			t.Errorf("ListenStream = %s, want %s", socket["Socket.ListenStream"], want)
		}
	}
}
