package front

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/inbox"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// maxAdminBody is the size of the largest body that the admin endpoint reads.
const maxAdminBody = 64 << 20

// admin is the Functions admin endpoint: POST /admin/functions/{name} with {"input":"<message text>"} puts a message into the
// inbox of a function with any trigger except the durable ones. It answers as the real host does: 202 once the message is on disk,
// 400 for a body that is not such an object, 404 for an unknown function, 415 without a Content-Type of JSON. In addition, it
// answers 413 to a message that is too large, and accepts a "messageId" beside the input. The function gets it as the message's
// id, so that it can recognize a message that was posted twice. The real host also accepts an input that is null or missing, and
// then fails. So the answer is 202 and nothing happens.
func (f *front) admin(w http.ResponseWriter, r *http.Request) {
	function, ok := f.App.Function(chi.URLParam(r, "name"))
	if !ok || funchost.IsDurableTrigger(function.Trigger()) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || !isJSONType(mediaType) {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	body, status := readBody(w, r, maxAdminBody)
	if status != http.StatusOK {
		w.WriteHeader(status)
		return
	}
	m, ok := adminMessage(body)
	switch {
	case !ok:
		w.WriteHeader(http.StatusBadRequest)
		return
	case m == nil:
		f.Log.Warn("an admin call without input: the host accepts it, and fails before it calls the function", "function", function.Name)
	default:
		err := f.Inbox.Post(r.Context(), function.Name, *m)
		if tooLarge := (*inbox.SizeError)(nil); errors.As(err, &tooLarge) {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			return
		}
		if err != nil {
			f.Log.Error("a message could not be stored", "function", function.Name, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

func isJSONType(mediaType string) bool {
	return mediaType == "application/json" || mediaType == "text/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

// adminMessage reads {"input":…,"messageId":…}. The input is a string, a number or a bool; m is nil without an input.
func adminMessage(body []byte) (m *taskhub.Message, ok bool) {
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
	return &taskhub.Message{ID: call.MessageID, Body: []byte(text)}, true
}
