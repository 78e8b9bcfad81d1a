package hub

import (
	"log/slog"
	"net/http"
	"time"
)

// SetNow replaces the clock.
func (s *Server) SetNow(now func() time.Time) { s.now = now }

// SetStep has step called after each step of an upload or a deletion.
func (s *Server) SetStep(step func(string)) { s.step = step }

// Observe wraps next as all requests are wrapped.
func Observe(log *slog.Logger, next http.Handler) http.Handler {
	return (&Server{opts: Options{Log: log}}).observe(next)
}

// AsFailure returns status and body text of what err becomes.
func AsFailure(err error) (status int, message string) {
	f := asFailure(err)
	return f.GetStatus(), f.body.Message
}
