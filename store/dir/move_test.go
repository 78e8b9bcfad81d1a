package dir_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestPutFile(t *testing.T) {
	root, b := t.TempDir(), storetest.Blobs(1)[0]
	s, from := open(t, root), filepath.Join(t.TempDir(), "upload")
	write(t, file(root, b), b.Data[:100]) // a damaged one is replaced
	write(t, from, b.Data)
	if err := s.PutFile(t.Context(), b.Digest, from); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file(root, b)); err != nil || !bytes.Equal(got, b.Data) {
		t.Errorf("the blob has %d bytes, %v, want its %d", len(got), err, b.Size())
	}
	if _, err := os.Lstat(from); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	write(t, from, b.Data)
	if err := s.PutFile(t.Context(), b.Digest, from); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("PutFile without the directory = %v, want %v", err, errs.ErrUnavailable)
	}
}
