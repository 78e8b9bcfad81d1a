package hub

import (
	"io"
	"net/http"
	"strings"

	"github.com/zosfs/zosfs/hub/api"
)

// routes returns the handler of everything.
func (s *Server) routes() (http.Handler, error) {
	protocol := http.NewServeMux()
	a := newAPI(protocol, s.opts.Version)
	s.operations(a)
	describe(a)
	if err := serveOpenAPI(protocol, a); err != nil {
		return nil, err
	}
	const repo = "/v1/repos/{owner}/{name}"
	protocol.Handle("PUT /v1/blobs/{digest}", handlerFunc(s.putBlob))
	protocol.Handle("GET /v1/blobs/{digest}", handlerFunc(s.getBlob)) // and HEAD
	protocol.Handle("PUT "+repo+"/tags/{tag}", handlerFunc(s.putTag))
	protocol.Handle("GET "+repo+"/flists/{digest}", handlerFunc(s.getFlist))
	protocol.Handle("POST /v1/chunks/locate", handlerFunc(s.locate))
	protocol.Handle("GET /healthz", handlerFunc(s.health))

	// Two multiplexers, as owners are the first element of the page's paths and may not
	// be the words of the protocol.
	guarded, page := s.authenticate(errorPages(protocol)), s.pages()
	return s.observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch first {
		case api.Version, "healthz", "openapi.json", "openapi.yaml":
			guarded.ServeHTTP(w, r)
		default:
			page.ServeHTTP(w, r)
		}
	})), nil
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	if err := s.db.Ping(r.Context()); err != nil {
		return fail(api.CodeUnavailable, "the database does not answer").because(err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, "ok\n") // the peer is gone if it fails
	return nil
}

// errorPages gives what the multiplexer answers itself, that there is no such path or not
// with this method, the error body of the protocol.
func errorPages(mux *http.ServeMux) http.Handler {
	return handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return nil
		}
		probe := &headersOnly{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if probe.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", probe.header.Get("Allow"))
			writeJSON(w, probe.status, api.ErrorBody{Error: api.Error{Code: api.CodeBadRequest, Message: "not with this method"}})
			return nil
		}
		return fail(api.CodeNotFound, "there is no such path")
	})
}

// headersOnly takes an answer without its body.
type headersOnly struct {
	header http.Header
	status int
}

func (w *headersOnly) Header() http.Header         { return w.header }
func (w *headersOnly) WriteHeader(status int)      { w.status = status }
func (w *headersOnly) Write(p []byte) (int, error) { return len(p), nil }
