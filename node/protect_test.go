package node

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMappedWith(t *testing.T) {
	const maps = `00400000-00a00000 r-xp 00000000 fe:00 1234                       /a program
00a00000-01000000 r--p 00600000 fe:00 1234                       /a program
01000000-01100000 rw-p 00c00000 fe:00 1234                       /a program (deleted)
01100000-01200000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r-xp 00000000 fe:00 99                 /lib/ld.so
7f0000001000-7f0000002000 r-xp 00000000 fe:01 1234               /another
7fff00000000-7fff00001000 rw-p 00000000 00:00 0                  [stack]
`
	want := []mapping{{0x400000, 0xa00000, "fe:00 1234"}, {0xa00000, 0x1000000, "fe:00 1234"}, {0x1000000, 0x1100000, "fe:00 1234"}}
	got, err := mappedWith(maps, 0x500000)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
	for _, addr := range []uint64{0, 0x1180000, 0x7f0000003000} {
		if got, err := mappedWith(maps, addr); !errors.Is(err, errProc) {
			t.Errorf("mappings with %#x = %v, %v, want %v", addr, got, err, errProc)
		}
	}
	if _, err := mappedWith("what is this\n", 0); err == nil {
		t.Error("no error from a line that cannot be read")
	}
}
