// Package dashboard is the page that shows and steers orchestrations, and what keeps other pages away from it. It is plain HTML, CSS and
// JavaScript without a build step, and speaks the Durable HTTP API of the port that it is served on.
//
//	token := rand.Text()
//	page := dashboard.Page(token, dashboard.App{Name: "local host", Local: true})
//	mux.Handle("GET /{$}", page)
//	mux.Handle(dashboard.Files, page)
//	mux.Handle(httpapi.Path+"/", loopback.Only(dashboard.OwnPages(token, api)))
package dashboard

import (
	"bytes"
	"crypto/hmac"
	"embed"
	"html/template"
	"net/http"

	"example.com/durablefunctions/handler/internal/loopback"
)

//go:embed page.html page
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// policy lets the page load its own files and call its own port, and nothing else; nobody may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Files is the path below which the page's files are.
const Files = "/local/page/"

// App is what the page shows.
type App struct {
	Name  string
	Local bool // it is the local host, whose own endpoints the page uses too
}

// Page serves the page at / and its files below [Files]; the token opens [OwnPages] to it.
func Page(token string, app App) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		if err := page.Execute(&b, struct {
			App
			Token, Files string
		}{app, token, Files}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
	mux.HandleFunc("GET "+Files+"{file}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "page/"+r.PathValue("file"))
	})
	return loopback.Only(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			w.Header().Set(name, value)
		}
		mux.ServeHTTP(w, r)
	}))
}

// TokenHeader is where the page shows that it is this host's own.
const TokenHeader = "X-Dashboard-Token"

// OwnPages lets other programs of this machine in, and a browser to read; writing is for the page with the token only, since any page on
// this machine has a loopback origin. Which sites come here at all is up to [loopback.Only].
func OwnPages(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if browser && !reads && !hmac.Equal([]byte(r.Header.Get(TokenHeader)), []byte(token)) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
