package hub

import (
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// Rows of the database as the protocol has them.

func repoJSON(r db.Repository) api.Repo {
	return api.Repo{Owner: r.Owner, Name: r.Name, Public: r.Public, Created: r.Created, Updated: r.Updated, Tags: r.Tags}
}

func flistJSON(f db.Flist) api.Flist {
	c := f.Counts
	return api.Flist{
		Digest: api.Digest(f.Digest), Tree: api.Digest(f.Tree), Size: f.Size, Created: f.Created,
		Counts: api.Counts{Entries: c.Entries, Files: c.Files, Dirs: c.Dirs, Objects: c.Objects, Chunks: c.Chunks,
			Blobs: c.Blobs, Size: c.Bytes, Stored: c.Stored},
	}
}

func tagJSON(t db.Tag) api.Tag {
	return api.Tag{Name: t.Name, Moved: t.Moved, Flist: flistJSON(t.Flist)}
}

func moveJSON(m db.Move) api.Move {
	out := api.Move{User: m.User, At: m.At}
	if m.Digest != (db.FlistDigest{}) {
		d := api.Digest(m.Digest)
		out.Digest = &d
	}
	return out
}

// each converts a slice; the result is never nil, which would be null in JSON.
func each[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
