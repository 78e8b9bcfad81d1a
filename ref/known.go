package ref

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Known returns the references to hubs that were opened with [Options].Dir dir, in no order. It
// asks nobody, and is for offers alone: what cannot be read is left out.
func Known(dir string) []Ref {
	files, err := fs.Glob(os.DirFS(keep{dir: dir}.refs()), "*/*/*/*")
	if err != nil {
		return nil
	}
	var known []Ref
	for _, file := range files {
		parts := strings.Split(file, "/")
		hub, err := url.PathUnescape(parts[0])
		if err != nil {
			continue
		}
		r, err := Parse(hub+"/"+parts[1]+"/"+parts[2]+":"+parts[3], "")
		if err == nil && r.tagFile() == filepath.FromSlash(file) {
			known = append(known, r)
		}
	}
	return known
}
