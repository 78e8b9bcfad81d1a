package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/internal/testenv"
)

// shells load the script as a user's shell would, and print what they complete $LINE to.
var shells = map[string]string{
	"bash": `source <(zosfs completion bash)
COMP_LINE=$LINE COMP_POINT=${#LINE}
__start_zosfs 2>/dev/null # compopt works on the command line alone
printf '%s\n' "${COMPREPLY[@]}"`,
	"fish": `zosfs completion fish | source
complete -C $LINE`,
	// zsh completes at a terminal alone. READ\Y is not what is typed, but what is printed.
	"zsh": `zmodload zsh/zpty
zpty -b z zsh -f -i
zpty -w z 'PS1=; autoload -U compinit; compinit -u -D; source <(zosfs completion zsh); print READ\Y'
zpty -r z out '*READY*'
zpty -n -w z "$LINE"$'\t'
zpty -r z out "*$WANT*"
print -r -- "$out"`,
}

// TestShells completes in real shells.
func TestShells(t *testing.T) {
	for shell, script := range shells {
		t.Run(shell, func(t *testing.T) {
			testenv.NeedTool(t, shell)
			for line, want := range map[string][]string{
				"zosfs mo":             {"mount"},
				"zosfs mount --mode ":  {"auto", "fuse", "kernel"},
				"zosfs mount --mode k": {"kernel"},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, shell, "-c", script)
				cmd.Env = append(os.Environ(), node(t.TempDir())...)
				cmd.Env = append(cmd.Env, "LINE="+line, "WANT="+want[len(want)-1], "TERM=dumb")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%q: %v\n%s", line, err, out)
				}
				for _, word := range want {
					if !strings.Contains(string(out), word) {
						t.Errorf("%q is not completed to %s:\n%q", line, word, out)
					}
				}
			}
		})
	}
}
