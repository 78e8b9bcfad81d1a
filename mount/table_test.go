package mount

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseTable(t *testing.T) {
	const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
36 22 0:32 /sub\040dir /mnt\011a\134b rw,nosuid shared:7 master:2 propagate_from:1 - fuse.zosfs https://hub/a\040b,c:1 ro,user_id=0
37 22 0:33 / /mnt rw - overlay none rw,lowerdir=/a - b
38 22 0:34 / /mnt rw - tmpfs  rw
`
	got, err := parseTable(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{22, "/", unix.Mkdev(254, 0), "ext4", "/dev/root", "rw,discard"},
		{36, "/mnt\ta\\b", unix.Mkdev(0, 32), "fuse.zosfs", "https://hub/a b,c:1", "ro,user_id=0"},
		{37, "/mnt", unix.Mkdev(0, 33), "overlay", "none", "rw,lowerdir=/a - b"},
		{38, "/mnt", unix.Mkdev(0, 34), "tmpfs", "", "rw"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if top, ok := topAt(got, "/mnt"); !ok || top.fstype != "tmpfs" {
		t.Errorf("on top at /mnt is %v, %v, want the tmpfs", top, ok)
	}
	if _, ok := topAt(got, "/mn"); ok {
		t.Error("something is on top at /mn")
	}
}

func TestParseTableBad(t *testing.T) {
	for _, line := range []string{"x", "1 2 3 4 5 6 7 8", "1 2 3 - ext4 /dev/root rw", "1 2 3:4 / / rw -", " - ", "1 2 x:4 / / rw - ext4 /dev/root rw", "x 2 3:4 / / rw - ext4 /dev/root rw"} {
		if got, err := parseTable(strings.NewReader(line + "\n")); err == nil {
			t.Errorf("parseTable(%q) = %v, want an error", line, got)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", `\040`: " ", `a\040b\134`: `a b\`, `\377`: "\xff", `\400`: `\400`, `\04`: `\04`, `\`: `\`, `\09x`: `\09x`, `\\040`: `\ `,
	} {
		if got := unescape(in); got != want {
			t.Errorf("unescape(%q) = %q, want %q", in, got, want)
		}
	}
}
