package mount_test

import "os"

func enterGroup(path string) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, []byte("0"), 0o600)
}
