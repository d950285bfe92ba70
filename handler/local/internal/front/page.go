package front

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/dashboard"
	"example.com/durablefunctions/handler/internal/loopback"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/inbox"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// forPage serves what the page can do on the local host only, below /local:
//
//   - GET functions: the functions, and what [config.Check] finds wrong with the app's files;
//   - GET messages: the dead letters and the messages that wait; GET messages/{number}: one with its body;
//   - POST messages/{number}: puts a dead letter back, with the text of {"body":"…"} if there is one;
//   - POST timers/{name}: runs a timer's function now, and waits for it.
//
// An answer that is not 2xx has the body {"Message":"…"}. A browser may write only from this handler's own page.
func (f *front) forPage(token string) http.Handler {
	r := chi.NewRouter()
	r.Get("/local/functions", f.listFunctions)
	r.Get("/local/messages", f.listMessages)
	r.Get("/local/messages/{number}", f.showMessage)
	r.Post("/local/messages/{number}", f.putBack)
	r.Post("/local/timers/{name}", f.runTimer)
	return loopback.Only(dashboard.OwnPages(token, r))
}

func answer(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"Message":"the answer cannot be encoded"}`)
	}
	for name, value := range map[string]string{"Content-Type": "application/json; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
		w.Header().Set(name, value)
	}
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"Message": text})
}

// shownFunction is a function as the page shows it.
type shownFunction struct {
	Name     string         `json:"name"`
	Trigger  string         `json:"trigger"`
	Disabled bool           `json:"disabled,omitempty"`
	Bindings []shownBinding `json:"bindings"`
	Path     string         `json:"path,omitempty"`    // of an HTTP function, with its parameters in braces
	Methods  []string       `json:"methods,omitempty"` // none: all
	Next     *time.Time     `json:"next,omitempty"`    // when a timer fires
	Sends    bool           `json:"sends,omitempty"`   // a message can be sent to it
	Why      string         `json:"why,omitempty"`     // why nothing triggers it here
}

type shownBinding struct {
	Type      string `json:"type"`
	Direction string `json:"direction"`
	Name      string `json:"name"`
	Detail    string `json:"detail,omitempty"`
}

// details are the properties of bindings that say where something comes from or goes to. They name settings and hold no secret.
var details = []string{"queueName", "topicName", "subscriptionName", "path", "schedule", "eventHubName", "connection", "apiKey", "authLevel"}

func (f *front) shown(function config.Function) shownFunction {
	t := function.Trigger()
	s := shownFunction{Name: function.Name, Trigger: t.Type, Bindings: []shownBinding{}}
	for _, b := range function.Bindings {
		var list []string
		for _, name := range details {
			if value := b.Property(name); value != "" {
				list = append(list, name+" "+value)
			}
		}
		s.Bindings = append(s.Bindings, shownBinding{b.Type, b.Direction, b.Name, strings.Join(list, ", ")})
	}
	switch {
	case t.Is(config.HTTPTrigger):
		s.Path = f.App.Host.Path(function)
		methods, _ := t.Methods() // they were checked when the app was loaded
		for _, method := range methods {
			s.Methods = append(s.Methods, strings.ToUpper(method))
		}
	case function.Schedule != nil:
		next := function.Schedule.Next(time.Now()).UTC()
		s.Next = &next
	case funchost.IsDurableTrigger(t):
	default:
		s.Sends = true
		if !funchost.IsMessageTrigger(t) && !t.Is(config.BlobTrigger) {
			s.Why = "The local host has no " + strings.TrimSuffix(t.Type, "Trigger") + " to listen to: send it a message."
		}
	}
	return s
}

type shownProblem struct {
	Place   string `json:"place"` // file:line
	Warning bool   `json:"warning"`
	Text    string `json:"text"`
}

func (f *front) listFunctions(w http.ResponseWriter, _ *http.Request) {
	list := []shownFunction{}
	for _, function := range f.App.Functions {
		list = append(list, f.shown(function))
	}
	for _, name := range f.App.Disabled {
		list = append(list, shownFunction{Name: name, Disabled: true, Bindings: []shownBinding{}})
	}
	slices.SortFunc(list, func(a, b shownFunction) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	problems := []shownProblem{}
	for _, p := range config.Check(f.App.Root, f.Environ) {
		place := p.File
		if p.Line > 0 {
			place += ":" + strconv.Itoa(p.Line)
		}
		problems = append(problems, shownProblem{place, p.Warning, p.Text})
	}
	answer(w, http.StatusOK, map[string]any{"functions": list, "problems": problems})
}

// maxListed is how many dead letters, and how many waiting messages, the page gets at most.
const maxListed = 1000

// shownMessage is a message as the page shows it. In a list, Body is only the beginning of the body.
type shownMessage struct {
	Number     int64      `json:"number"`
	Function   string     `json:"function"`
	ID         string     `json:"id"`
	Dead       bool       `json:"dead"`
	Enqueued   time.Time  `json:"enqueued"`
	Deliveries int        `json:"deliveries"`
	Time       *time.Time `json:"time,omitempty"` // a dead letter's last delivery, a waiting message's next one; none: at once
	Reason     string     `json:"reason,omitempty"`
	Size       int        `json:"size"`
	Body       string     `json:"body"`
	Binary     bool       `json:"binary,omitempty"` // Body is base64, because the body is not UTF-8
}

const shownBeginning = 200

func shownOf(m taskhub.StoredMessage, whole bool) shownMessage {
	s := shownMessage{
		Number: m.SequenceNumber, Function: m.Function, ID: m.ID, Dead: m.Dead, Enqueued: m.EnqueuedAt, Deliveries: m.DeliveryCount, Reason: m.Reason,
		Size: len(m.Body),
	}
	if !m.Time.IsZero() {
		s.Time = &m.Time
	}
	body := m.Body
	if s.Binary = !utf8.Valid(body); s.Binary {
		if !whole {
			body = body[:min(len(body), shownBeginning/2)]
		}
		s.Body = base64.StdEncoding.EncodeToString(body)
		return s
	}
	if !whole && len(body) > shownBeginning {
		body = []byte(strings.ToValidUTF8(string(body[:shownBeginning]), "") + "…")
	}
	s.Body = string(body)
	return s
}

func (f *front) listMessages(w http.ResponseWriter, r *http.Request) {
	found := map[string]any{}
	for name, dead := range map[string]bool{"dead": true, "waiting": false} {
		messages, err := f.Hub.Messages(r.Context(), dead)
		if err != nil {
			f.fail(w, "the messages could not be read", err)
			return
		}
		list := []shownMessage{}
		for _, m := range messages[:min(len(messages), maxListed)] {
			list = append(list, shownOf(m, false))
		}
		found[name], found[name+"Total"] = list, len(messages)
	}
	answer(w, http.StatusOK, found)
}

func (f *front) fail(w http.ResponseWriter, what string, err error) {
	f.Log.Error(what, "error", err)
	refuse(w, http.StatusInternalServerError, what)
}

func (f *front) showMessage(w http.ResponseWriter, r *http.Request) {
	number, _ := strconv.ParseInt(chi.URLParam(r, "number"), 10, 64) // no message has the number 0
	switch m, ok, err := f.Hub.Message(r.Context(), number); {
	case err != nil:
		f.fail(w, "the message could not be read", err)
	case !ok:
		refuse(w, http.StatusNotFound, "there is no such message: it may have been taken meanwhile")
	default:
		answer(w, http.StatusOK, shownOf(m, true))
	}
}

func (f *front) putBack(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.ParseInt(chi.URLParam(r, "number"), 10, 64)
	if err != nil {
		refuse(w, http.StatusNotFound, taskhub.ErrNoDeadLetter.Error())
		return
	}
	text, status := readBody(w, r, maxAdminBody)
	if status == http.StatusRequestEntityTooLarge {
		refuse(w, status, "the message is too large")
		return
	}
	var change struct{ Body *string }
	if status != http.StatusOK || len(text) > 0 && json.Unmarshal(text, &change) != nil {
		refuse(w, http.StatusBadRequest, `the request must be empty, or {"body":"the message's text"}`)
		return
	}
	var body []byte
	if change.Body != nil {
		body = append([]byte{}, *change.Body...)
	}
	tooLarge := (*inbox.SizeError)(nil)
	switch err := f.Inbox.PutBack(r.Context(), number, body); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, taskhub.ErrNoDeadLetter):
		refuse(w, http.StatusNotFound, err.Error())
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, err.Error())
	default:
		f.fail(w, "the dead letter could not be put back", err)
	}
}

func (f *front) runTimer(w http.ResponseWriter, r *http.Request) {
	function, ok := f.App.Function(chi.URLParam(r, "name"))
	switch {
	case !ok || function.Schedule == nil:
		refuse(w, http.StatusNotFound, "there is no function with a timer of that name")
		return
	case f.Invoker.Stopping.Err() != nil:
		refuse(w, http.StatusServiceUnavailable, "the host is stopping")
		return
	}
	control := http.NewResponseController(w)
	_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})
	_, started, err := f.Invoker.Run(r.Context(), function, func(try funchost.Try, client funchost.Client) []byte {
		return funchost.TimerRequest(function, try, funchost.Timer{}, client)
	})
	failure := (*funchost.Exception)(nil)
	switch {
	case errors.As(err, &failure):
		refuse(w, http.StatusInternalServerError, "the function failed: "+failure.OwnWords())
	case err != nil:
		f.fail(w, "the function could not be run", err)
	default:
		answer(w, http.StatusOK, map[string]any{"started": append([]string{}, started...)})
	}
}
