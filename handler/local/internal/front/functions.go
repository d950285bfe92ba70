package front

import (
	"net/http"
	"strconv"
	"time"

	"example.com/durablefunctions/handler/internal/route"
	"example.com/durablefunctions/handler/local/internal/funchost"
)

// maxHTTPBody is the real host's limit for the body of a request.
const maxHTTPBody = 100 << 20

// functions serves the functions with an httpTrigger, at the real host's paths.
func (f *front) functions(w http.ResponseWriter, r *http.Request) {
	match, ok := f.App.Routes.Find(r.Method, r.URL.EscapedPath())
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if f.Invoker.Stopping.Err() != nil {
		http.Error(w, "the host is stopping", http.StatusServiceUnavailable)
		return
	}
	function, _ := f.App.Function(match.Function)
	control := http.NewResponseController(w) // a function may take longer than a call of the admin endpoint
	_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})
	if f.App.Host.Forwards(function) {
		f.Invoker.Forward(w, r, function)
		return
	}
	body, status := readBody(w, r, maxHTTPBody)
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	answer, _, err := f.Invoker.Run(r.Context(), function, func(try funchost.Try, client funchost.Client) []byte {
		return funchost.HTTPRequest(function, try, httpCall(r, body, match), client)
	})
	if err != nil {
		f.Log.Error("an HTTP function failed", "function", function.Name, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	answer.WriteHTTP(w, function)
}

func httpCall(r *http.Request, body []byte, match route.Match) funchost.HTTPCall {
	headers := r.Header.Clone()
	headers.Set("Host", r.Host)
	if r.ContentLength > 0 {
		headers.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	return funchost.HTTPCall{
		Method: r.Method, URL: "http://" + r.Host + r.URL.RequestURI(), Headers: headers, Body: body,
		Names: match.Template.Names(), Params: match.Params,
	}
}
