package ui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"time"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed assets
var assets embed.FS

// UI holds the templates.
type UI struct{ home, repository, tree, failure *template.Template }

// New parses the templates.
func New() (*UI, error) {
	u := &UI{}
	for name, t := range map[string]**template.Template{
		"home": &u.home, "repository": &u.repository, "tree": &u.tree, "failure": &u.failure,
	} {
		var err error
		*t, err = template.New("layout.html").Funcs(functions).ParseFS(templates, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
	}
	return u, nil
}

// Headers sets what all pages send: nothing but our own style sheet and icon is loaded, no
// script runs, nobody frames the page.
func Headers(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-cache, private")
}

// Assets serves the style sheet and the icon below /assets/.
func (u *UI) Assets() http.Handler {
	files := http.FileServerFS(noDirs{assets})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		files.ServeHTTP(w, r)
	})
}

// noDirs is a file system whose directories cannot be listed.
type noDirs struct{ fs.FS }

// Open implements fs.FS.
func (n noDirs) Open(name string) (fs.File, error) {
	f, err := n.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || fi.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

// Home is the list of public repositories.
type Home struct {
	Hub   string // URL of the hub
	Repos []Repo
	First bool   // it is the first page
	Next  string // where the next page begins after; "" on the last
}

// Repo is one row of Home.
type Repo struct {
	Owner, Name string
	Tags        int64
	Updated     time.Time
}

// Repository is the page of one repository.
type Repository struct {
	Hub, Owner, Name string
	Tags             []Tag
	Next             string    // where the next page of tags begins after; "" on the last
	Versions         []Version // newest first
}

// Newest returns the tag of this page that moved last; the page must have one.
func (r Repository) Newest() Tag {
	return slices.MaxFunc(r.Tags, func(a, b Tag) int { return a.Moved.Compare(b.Moved) })
}

// Tag is a name of a version.
type Tag struct {
	Name    string
	Moved   time.Time
	Version Version
}

// Version is an flist in figures.
type Version struct {
	Digest  string // 64 hexadecimal digits
	Created time.Time
	Entries int64
	Bytes   int64 // of all files
	Stored  int64 // bytes of all chunks as stored
}

// Tree is the page of one directory or file of a version.
type Tree struct {
	Hub, Owner, Name string
	Ref              string // tag, or "@" and a digest
	Version          Version
	Path             []string // names from the root, arbitrary bytes
	Self             Entry
	Entries          []Entry // of a directory
	Next             string  // name where the next page begins after; "" on the last
}

// Entry is one name in a directory.
type Entry struct {
	Name     string // arbitrary bytes
	Mode     uint32 // st_mode
	UID, GID uint32
	Size     int64
	Rdev     uint64
	Target   string // of a symlink, arbitrary bytes
	MTime    time.Time
}

// Home writes the page.
func (u *UI) Home(w http.ResponseWriter, p Home) { write(w, http.StatusOK, u.home, p) }

// Repository writes the page.
func (u *UI) Repository(w http.ResponseWriter, p Repository) {
	write(w, http.StatusOK, u.repository, p)
}

// Tree writes the page.
func (u *UI) Tree(w http.ResponseWriter, p Tree) { write(w, http.StatusOK, u.tree, p) }

// Failure writes a page that says that something went wrong.
func (u *UI) Failure(w http.ResponseWriter, status int, message string) {
	write(w, status, u.failure, struct {
		Status        int
		Text, Message string
	}{status, http.StatusText(status), message})
}

func write(w http.ResponseWriter, status int, t *template.Template, p any) {
	var b bytes.Buffer // whole pages only
	if err := t.Execute(&b, p); err != nil {
		panic(fmt.Errorf("page: %w", err)) // our own templates over our own types
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the peer is gone if it fails
}
