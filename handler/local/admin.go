package local

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/local/internal/manage"
)

// maxAdminBody bounds what the admin endpoint reads.
const maxAdminBody = 64 << 20

// Handler is all that the host serves on one port: the admin endpoint (see [Host.Admin]), the HTTP functions at /api or host.json's
// routePrefix, a page with the instances at /, and the Durable HTTP API at /runtime/webhooks/durabletask, with the real host's routes
// and answers and without its keys. It answers 403 to anything but a loopback name
// in Host, to other web sites than those that Host.CORS of local.settings.json names, which may read the API, and to a browser that
// writes without the token of this host's own page.
func (h *Host) Handler() http.Handler {
	mux := http.NewServeMux()
	page := dashboard.Page(h.token, "local host")
	for _, path := range []string{"GET /{$}", "GET /page.css", "GET /page.js"} {
		mux.Handle(path, page)
	}
	mux.Handle("/", h.Admin())
	mux.Handle(httpapi.Path+"/", h.forPages(dashboard.OwnPages(h.token, manage.NewHTTP(h.hub, h.app.Host.HubName, h.log))))
	return mux
}

// Admin is the Functions admin endpoint: POST /admin/functions/{name} with {"input":"<message text>"} puts a message
// into the inbox of a function with any trigger but the durable ones, and answers as the real host does: 202 once the message is on
// disk, 400 for a body that is not such an object, 404 for an unknown function, 415 without a Content-Type of JSON. Beyond
// that it answers 413 to a message larger than MaxMessageBytes, and takes a "messageId" beside the input: the function sees it
// as the message's id, by which it can tell a message that was posted twice.
// The real host accepts an input that is null or missing too, and then fails; so the answer is 202 and nothing happens.
//
// Like func start it asks for no key. It answers 403 to anything but a loopback name in Host, and to other web sites.
func (h *Host) Admin() http.Handler {
	r := chi.NewRouter()
	r.Use(dashboard.LoopbackOnly)
	r.Post("/admin/functions/{name}", h.admin)
	r.NotFound(h.serveHTTP)
	return r
}

func (h *Host) admin(w http.ResponseWriter, r *http.Request) {
	f, ok := h.deliverable(chi.URLParam(r, "name"))
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || !isJSONType(mediaType) {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if tooLarge := (*http.MaxBytesError)(nil); err != nil {
		status := http.StatusBadRequest
		if errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(status)
		return
	}
	m, ok := adminMessage(body)
	switch {
	case !ok:
		w.WriteHeader(http.StatusBadRequest)
		return
	case m == nil:
		h.log.Warn("an admin call without input: the host accepts it, and fails before it calls the function", "function", f.Name)
	default:
		err := h.Enqueue(r.Context(), f.Name, *m)
		if tooLarge := (*MessageSizeError)(nil); errors.As(err, &tooLarge) {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			h.log.Error("a message could not be stored", "function", f.Name, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

func isJSONType(mediaType string) bool {
	return mediaType == "application/json" || mediaType == "text/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

// adminMessage reads {"input":…,"messageId":…}: the text of a string, number or bool; nil if there is none.
func adminMessage(body []byte) (m *Message, ok bool) {
	var call *struct {
		Input     json.RawMessage
		MessageID string
	}
	if json.Unmarshal(body, &call) != nil || call == nil {
		return nil, false
	}
	if len(call.Input) == 0 || string(call.Input) == "null" {
		return nil, true
	}
	text := string(call.Input)
	switch call.Input[0] {
	case '{', '[':
		return nil, false
	case '"':
		if json.Unmarshal(call.Input, &text) != nil {
			return nil, false
		}
	}
	return &Message{ID: call.MessageID, Body: []byte(text)}, true
}
