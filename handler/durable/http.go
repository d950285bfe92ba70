package durable

import (
	"encoding/json"
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/internal/dotnet"
	"example.com/durablefunctions/handler/internal/wire"
)

// HTTPRequest is a call that CallHTTP has the host make.
type HTTPRequest struct {
	Method  string // empty: GET
	URL     string // http or https, with its query
	Header  HTTPHeader
	Body    string        // text: the host sends no other
	Timeout time.Duration // of each request; 0: the host's, 100 seconds
	// Identity is the resource, for example https://management.core.windows.net, for which the host gets a token of the
	// app's managed identity and sends it along; empty: none. There is none on the local host.
	Identity string
	// NoPolling returns an answer of 202 as it is.
	NoPolling bool
}

// HTTPResponse is the answer to an HTTPRequest, of any status.
type HTTPResponse struct {
	StatusCode int        `json:"statusCode"`
	Header     HTTPHeader `json:"headers"` // without those that describe the content, such as Content-Type: the host drops them
	Body       string     `json:"content"`
}

// HTTPHeader is the header of a request or an answer, by name as net/http spells it: http.Header(h) converts it.
type HTTPHeader map[string][]string

// Get returns the first value of that name, in any case, or nothing.
func (h HTTPHeader) Get(name string) string { return textproto.MIMEHeader(h).Get(name) }

// MarshalJSON writes the header as the host reads it: a value alone, several as a list.
func (h HTTPHeader) MarshalJSON() ([]byte, error) {
	values := map[string]any{}
	for name, list := range h {
		if values[name] = list; len(list) == 1 {
			values[name] = list[0]
		}
	}
	return json.Marshal(values)
}

// UnmarshalJSON reads what MarshalJSON and the host write.
func (h *HTTPHeader) UnmarshalJSON(text []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(text, &values); err != nil {
		return err
	}
	*h = HTTPHeader{}
	for name, value := range values {
		var one string
		list := []string{}
		if json.Unmarshal(value, &one) == nil {
			list = append(list, one)
		} else if err := json.Unmarshal(value, &list); err != nil {
			return fmt.Errorf("header %s is neither a string nor a list of strings", name)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		(*h)[name] = append((*h)[name], list...)
	}
	return nil
}

// httpMessage is an HTTPRequest as the host reads it.
type httpMessage struct {
	Method  string       `json:"method"`
	URL     string       `json:"uri"`
	Header  HTTPHeader   `json:"headers,omitempty"`
	Body    string       `json:"content,omitempty"`
	Timeout string       `json:"timeout,omitempty"`
	Token   *tokenSource `json:"tokenSource,omitempty"`
}

type tokenSource struct {
	Kind     string `json:"kind"`
	Resource string `json:"resource"`
}

// MarshalJSON writes the request as the host reads it.
func (r HTTPRequest) MarshalJSON() ([]byte, error) {
	m := httpMessage{Method: r.Method, URL: r.URL, Header: r.Header, Body: r.Body}
	if m.Method == "" {
		m.Method = "GET"
	}
	if r.Timeout > 0 {
		m.Timeout = dotnet.FormatTimeSpan(r.Timeout)
	}
	if r.Identity != "" {
		m.Token = &tokenSource{"AzureManagedIdentity", r.Identity}
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON writes. A host that runs the call needs it.
func (r *HTTPRequest) UnmarshalJSON(text []byte) (err error) {
	var m httpMessage
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	*r = HTTPRequest{Method: m.Method, URL: m.URL, Header: m.Header, Body: m.Body}
	if m.Token != nil {
		r.Identity = m.Token.Resource
	}
	if m.Timeout != "" {
		r.Timeout, err = dotnet.ParseTimeSpan(m.Timeout)
	}
	return err
}

const httpActivity = ActivityName[[]HTTPRequest, HTTPResponse](wire.HTTPActivity)

// CallHTTP has the host make an HTTP call, for which no activity is needed. An answer of any status is a result; the
// error of a call that got none is a *TaskError, for which the host gives no reason. WithRetry makes it again.
//
// An answer of 202 with a Location is polled there, by GET with the same header, as its Retry-After says or every 30
// seconds, until another answer comes: each poll is a turn or two and stays in the history, so mind WithTimeout. An access
// key is not sent along (x-functions-key), and credentials not to another host.
func CallHTTP(ctx *task.OrchestrationContext, r HTTPRequest, options ...CallOption) *Task[HTTPResponse] {
	r.Header = r.Header.clone()
	c := &httpCall{Task: newTask[HTTPResponse](ctx), ctx: ctx, options: options}
	c.abandon = func() { c.current.end("", ErrTimeout) }
	c.send(r)
	return c.Task
}

// httpCall is a call and the polls that follow it.
type httpCall struct {
	*Task[HTTPResponse]
	ctx     *task.OrchestrationContext
	options []CallOption
	current *Task[HTTPResponse]
}

func (c *httpCall) send(r HTTPRequest) {
	c.current = httpActivity.Call(c.ctx, []HTTPRequest{r}, c.options...)
	c.current.then(func() { c.answered(r) })
}

func (c *httpCall) answered(r HTTPRequest) {
	if answer, err := c.current.value(); err == nil && answer.StatusCode == 202 && !r.NoPolling {
		if next, ok := r.poll(answer.Header.Get("Location")); ok {
			pause := c.pause(answer.Header.Get("Retry-After"))
			sleep(c.turn, pause, func() bool { return !c.done }, func() {
				if !c.done {
					c.send(next)
				}
			})
			return
		}
	}
	c.end(c.current.result, c.current.err)
}

// pause is how long to wait before a poll: a second at least.
func (c *httpCall) pause(retryAfter string) time.Duration {
	pause := 30 * time.Second
	if c.turn.HTTPPause > 0 {
		pause = c.turn.HTTPPause
	}
	if seconds, err := strconv.ParseUint(retryAfter, 10, 31); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := time.Parse(time.RFC1123, retryAfter); err == nil {
		pause = at.Sub(c.turn.Context.CurrentTimeUtc)
	}
	return max(pause, time.Second)
}

// poll is the request that asks at the location for the result of the first one.
func (r HTTPRequest) poll(location string) (next HTTPRequest, ok bool) {
	from, err := url.Parse(r.URL)
	if err != nil || location == "" {
		return r, false
	}
	to, err := from.Parse(location)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" {
		return r, false
	}
	next = HTTPRequest{URL: to.String(), Header: r.Header.clone(), Timeout: r.Timeout, Identity: r.Identity}
	next.Header.drop("X-Functions-Key", "Content-Type")
	if to.Host != from.Host || to.Scheme != from.Scheme {
		next.Header.drop("Authorization", "Cookie")
		next.Identity = ""
	}
	return next, true
}

func (h HTTPHeader) drop(names ...string) {
	for name := range h {
		if slices.Contains(names, textproto.CanonicalMIMEHeaderKey(name)) {
			delete(h, name)
		}
	}
}

func (h HTTPHeader) clone() HTTPHeader {
	if h == nil {
		return nil
	}
	clone := HTTPHeader{}
	for name, values := range h {
		clone[name] = slices.Clone(values)
	}
	return clone
}
