// Package dashboard serves a web page that shows and steers orchestrations, and guards the page's writes against other web pages.
// The page is plain HTML, CSS and JavaScript without a build step. It uses the Durable HTTP API on the port that serves the page.
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

// policy allows the page to load its own files and to call its own port, and nothing else. No site may put it into a frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Files is the path of the page's files.
const Files = "/local/page/"

// App is the app that the page shows.
type App struct {
	Name  string
	Local bool // the page also uses the local host's own endpoints
}

// Page serves the page at / and its files below [Files]. The page gets the token, with which [OwnPages] lets it write.
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

// TokenHeader is the header in which the page sends the token.
const TokenHeader = "X-Dashboard-Token"

// OwnPages lets other programs of this machine do everything, and a browser only read. A browser may write only with the page's
// token, because every page on this machine has a loopback origin. [loopback.Only] decides which origins get here at all.
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
