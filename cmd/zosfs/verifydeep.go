package main

import (
	"context"
	"fmt"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/term"
)

// damageJSON is one piece of damage.
type damageJSON struct {
	image.Damage
	Error string `json:"error"`
}

func (a *app) verifyDeep(ctx context.Context, s string, o openOptions) (err error) {
	op, err := a.openRef(ctx, s, o)
	if err != nil {
		return err
	}
	defer closing(op, &err)
	im, err := image.New(op.Flist, op.Source, image.Options{Deadline: o.deadline, Log: a.log()})
	if err != nil {
		return err
	}
	defer closing(im, &err)
	bar := a.progress("verify", "chunks")
	var read int64
	report, err := im.VerifyContent(ctx, func(p image.Progress) {
		read = p.Bytes
		bar.Set(p.Chunks, p.Bytes, p.TotalBytes)
	})
	if err != nil {
		bar.Abort()
		return err
	}
	bar.Done()
	for _, d := range report.Damage {
		if a.json {
			if err := a.emit("damage", damageJSON{d, d.Err.Error()}); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintf(a.out, "%s: %s\n", term.Printable([]byte(d.Path)), term.Printable([]byte(d.Err.Error()))); err != nil {
			return err
		}
	}
	if n := int64(len(report.Damage)) + report.More; n > 0 {
		return errs.Textf(errs.ErrCorrupt, "%s: %s of content damaged", op.Ref, count(n, "piece"))
	}
	return a.verified(verifyJSON{Digest: op.Flist.Digest(), Deep: true, Blobs: op.Flist.Counts().Blobs, Bytes: read})
}
