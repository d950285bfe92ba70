// Package front serves everything that the local host offers on its one port: the admin endpoint, the HTTP functions, the page
// with the instances, and the Durable HTTP API. All of it is for this machine only: package loopback refuses other web sites,
// except those in Host.CORS of local.settings.json.
//
//	handler := front.New(front.Options{App: app, Hub: hub, Inbox: inbox, Invoker: invoker, Origins: origins, Log: log})
package front

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/cors"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/internal/loopback"
	"example.com/durablefunctions/handler/local/internal/inbox"
	"example.com/durablefunctions/handler/local/internal/invoke"
	"example.com/durablefunctions/handler/local/internal/manage"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Options configure the handler. Origins and Environ may be empty.
type Options struct {
	App     *config.App
	Hub     *taskhub.TaskHub
	Inbox   *inbox.Inbox
	Invoker *invoke.Invoker
	Log     *slog.Logger
	Origins []string // of the web pages that may call, in lower case; "*" means any
	Environ []string // with which the app was loaded
}

type front struct {
	Options
}

// New returns the handler of the port:
//
//   - /admin/functions/{name} puts a message into a function's inbox, see admin;
//   - /api, or host.json's routePrefix, has the HTTP functions at the real host's paths;
//   - / is the page, and /local what it needs of this host beyond the Durable HTTP API, see forPage;
//   - /runtime/webhooks/durabletask is the Durable HTTP API.
//
// Like func start it asks for no key. It answers 403 if the name in Host is not a loopback name, to web sites that are not in
// Origins, and to a browser that writes to the Durable HTTP API or below /local without the token of this handler's own page. The
// pages of Origins may call the HTTP functions and read the API, but not post messages.
func New(o Options) http.Handler {
	f := &front{Options: o}
	token := rand.Text()
	mux := http.NewServeMux()
	page := dashboard.Page(token, dashboard.App{Name: "local host", Local: true})
	for _, path := range []string{"GET /{$}", "GET " + dashboard.Files} {
		mux.Handle(path, page)
	}
	admin := chi.NewRouter()
	admin.Post("/admin/functions/{name}", f.admin)
	mux.Handle("/local/", f.forPage(token))
	mux.Handle("/admin/", loopback.Only(admin))
	mux.Handle(httpapi.Path+"/", f.forPages(dashboard.OwnPages(token, manage.NewHTTP(o.Hub, o.App.Host.HubName, o.Log))))
	mux.Handle("/", f.forPages(http.HandlerFunc(f.functions)))
	return mux
}

// forPages admits the web pages of Origins and refuses all others. Like func start it allows them every method and header.
func (f *front) forPages(next http.Handler) http.Handler {
	named := cors.Handler(cors.Options{
		AllowOriginFunc: func(*http.Request, string) bool { return true },
		AllowedMethods:  []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders:  []string{"*"},
		ExposedHeaders:  []string{"Location", "Retry-After"},
	})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&allowingWriter{w, w.Header().Clone()}, r)
	}))
	return loopback.Only(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.isNamed(r.Header.Get("Origin")) {
			named.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}), f.isNamed)
}

// allowingWriter keeps the host's CORS headers and drops the function's own. A browser refuses an answer with both, and the
// function may name the address that the page has in Azure.
type allowingWriter struct {
	http.ResponseWriter
	allowed http.Header
}

func (w *allowingWriter) WriteHeader(status int) {
	for name, values := range w.allowed {
		if strings.HasPrefix(name, "Access-Control-") {
			w.Header()[name] = values
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *allowingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// isNamed says whether Origins has a page's origin.
func (f *front) isNamed(origin string) bool {
	return origin != "" && (slices.Contains(f.Origins, "*") || slices.Contains(f.Origins, strings.ToLower(origin)))
}

// readBody reads a request's body. The status is 200, or says why the body cannot be taken.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, status int) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusBadRequest
	}
	return body, http.StatusOK
}
