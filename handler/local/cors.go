package local

import (
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/cors"

	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/internal/loopback"
)

// forPages lets the web pages call that Host.CORS of local.settings.json names, as func start does, and keeps all others away, as
// dashboard.LoopbackOnly does.
func (h *Host) forPages(next http.Handler) http.Handler {
	named := loopbackHost(cors.Handler(cors.Options{
		AllowOriginFunc: func(*http.Request, string) bool { return true },
		AllowedMethods:  []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders:  []string{"*"},
		ExposedHeaders:  []string{"Location", "Retry-After"},
	})(next))
	others := dashboard.LoopbackOnly(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && (slices.Contains(h.origins, "*") || slices.Contains(h.origins, strings.ToLower(origin))) {
			named.ServeHTTP(w, r)
		} else {
			others.ServeHTTP(w, r)
		}
	})
}

// loopbackHost refuses a call under any other name than this machine's own: a page can give a name of its own our address.
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !loopback.Is(r.Host) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
