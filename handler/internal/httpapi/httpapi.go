// Package httpapi speaks the Durable HTTP API, which the local host and every deployed app have:
//
//	c, err := httpapi.New("https://app.azurewebsites.net", key)
//	…
//	page, err := c.List(ctx, httpapi.Filter{Status: []string{"Failed"}})
//	instance, err := c.Get(ctx, page.Instances[0].ID, httpapi.WithHistory)
//	err = c.Rewind(ctx, instance.ID, "the record is there now")
//
// The key travels in a header, never in a URL, and over the network only with TLS.
package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/loopback"
)

// Path is where an app serves the API.
const Path = "/runtime/webhooks/durabletask"

// KeyHeader is the header in which a Functions host expects a key.
const KeyHeader = "X-Functions-Key"

// maxAnswer limits how many bytes of an answer are read.
const maxAnswer = 256 << 20

// Client calls the API of one app. It is safe for concurrent use.
type Client struct {
	base, key string
	http      *http.Client
}

// New makes a client of the app at an address such as https://app.azurewebsites.net. The key is the system key
// durabletask_extension or the master key; a local host needs none. The error says what is wrong with the address.
func New(address, key string) (*Client, error) {
	u, err := url.Parse(strings.TrimRight(strings.TrimSuffix(strings.TrimRight(address, "/"), Path), "/"))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil:
		return nil, errors.New("the app's URL must be like https://APP.azurewebsites.net or http://127.0.0.1:7071, and the key is given apart from it")
	case u.Scheme == "http" && !loopback.Is(u.Host):
		return nil, fmt.Errorf("the app's URL http://%s would send the key and the data unencrypted: write https", u.Host)
	}
	return &Client{base: u.String() + Path, key: key, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a redirect must not get the key
	}}, nil
}

// Address is the app's address without the API's path.
func (c *Client) Address() string { return strings.TrimSuffix(c.base, Path) }

// Instance is an orchestration instance as the API shows it. Input, CustomStatus and Output are JSON.
type Instance struct {
	Name         string          `json:"name"`
	ID           string          `json:"instanceId"`
	Parent       string          `json:"parentInstanceId,omitempty"`
	Status       string          `json:"runtimeStatus"`
	Input        json.RawMessage `json:"input"`
	CustomStatus json.RawMessage `json:"customStatus"`
	Output       json.RawMessage `json:"output"`
	Created      time.Time       `json:"createdTime"`
	Updated      time.Time       `json:"lastUpdatedTime"`
	History      []Event         `json:"historyEvents,omitempty"`
}

// IsFinished says whether the instance has ended, however it ended.
func (i Instance) IsFinished() bool {
	return i.Status == "Completed" || i.Status == "Failed" || i.Status == "Terminated" || i.Status == "Canceled"
}

// Event is an event of an instance's history; its type decides which fields it has. An operation that has ended is one event,
// which also has the time at which it was scheduled.
type Event struct {
	Type           string          `json:"EventType"`
	Name           string          `json:"Name,omitempty"`
	FunctionName   string          `json:"FunctionName,omitempty"`
	InstanceID     string          `json:"InstanceId,omitempty"`
	Input          json.RawMessage `json:"Input,omitempty"`
	Result         json.RawMessage `json:"Result,omitempty"`
	Reason         string          `json:"Reason,omitempty"`
	Status         string          `json:"OrchestrationStatus,omitempty"`
	FailureDetails *Failure        `json:"FailureDetails,omitempty"`
	ScheduledTime  *time.Time      `json:"ScheduledTime,omitempty"`
	FireAt         *time.Time      `json:"FireAt,omitempty"`
	Timestamp      time.Time       `json:"Timestamp"`
}

// Failure says why something failed, in .NET's terms.
type Failure struct {
	ErrorType, ErrorMessage string
	InnerFailure            *Failure
}

// Innermost returns the failure that caused the others.
func (f *Failure) Innermost() *Failure {
	for f != nil && f.InnerFailure != nil {
		f = f.InnerFailure
	}
	return f
}

// Error is an answer that refuses the call.
type Error struct {
	Status  int // of HTTP
	Message string
}

func (e *Error) Error() string { return e.Message }

// IsNotFound says whether the error means that the instance or entity does not exist.
func IsNotFound(err error) bool {
	e := (*Error)(nil)
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// Filter chooses instances; its zero value chooses all.
type Filter struct {
	Status   []string // "Failed"
	Prefix   string   // prefix of the instance ids
	From, To time.Time
	Inputs   bool
	Size     int    // page size; 0 means 100
	Token    string // [Page.Next] of the page before
}

func (f Filter) query() url.Values {
	q := url.Values{}
	if len(f.Status) > 0 {
		q.Set("runtimeStatus", strings.Join(f.Status, ","))
	}
	if f.Prefix != "" {
		q.Set("instanceIdPrefix", f.Prefix)
	}
	for name, t := range map[string]time.Time{"createdTimeFrom": f.From, "createdTimeTo": f.To} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339))
		}
	}
	return q
}

// Page is a part of a list.
type Page struct {
	Instances []Instance
	Next      string // empty on the last page
}

const continuation = "x-ms-continuation-token"

// List returns a page of the instances that the filter chooses.
func (c *Client) List(ctx context.Context, f Filter) (page Page, err error) {
	q := f.query()
	q.Set("showInput", strconv.FormatBool(f.Inputs))
	q.Set("top", strconv.Itoa(max(f.Size, 0)))
	if f.Size <= 0 {
		q.Set("top", "100")
	}
	answer, err := c.do(ctx, http.MethodGet, "/instances/", q, nil, pageAfter(f.Token))
	if err != nil {
		return page, err
	}
	if err := json.Unmarshal(answer.body, &page.Instances); err != nil {
		return page, answer.notUnderstood(err)
	}
	page.Next = answer.next()
	return page, nil
}

// pageAfter returns the header that asks for the page after another one.
func pageAfter(token string) http.Header {
	if token == "" {
		return nil
	}
	return http.Header{continuation: {token}}
}

// next returns the token of the next page, empty if this is the last one.
func (a answer) next() string {
	if tokens := a.header.Values(continuation); len(tokens) > 0 && strings.TrimSpace(tokens[0]) != "bnVsbA==" {
		return tokens[0]
	}
	return ""
}

// Detail says how much of an instance Get returns.
type Detail bool

// What Get returns of an instance.
const (
	WithoutHistory Detail = false
	WithHistory    Detail = true
)

// Get returns an instance. [IsNotFound] recognizes the error if there is none.
func (c *Client) Get(ctx context.Context, id string, detail Detail) (i Instance, err error) {
	body, err := c.GetJSON(ctx, id, detail)
	if err != nil {
		return i, err
	}
	if err := json.Unmarshal(body, &i); err != nil {
		return i, answer{body: body}.notUnderstood(err)
	}
	return i, nil
}

// GetJSON returns an instance as the app shows it.
func (c *Client) GetJSON(ctx context.Context, id string, detail Detail) (json.RawMessage, error) {
	q := url.Values{}
	if detail == WithHistory {
		q.Set("showHistory", "true")
		q.Set("showHistoryOutput", "true")
	}
	a, err := c.do(ctx, http.MethodGet, "/instances/"+url.PathEscape(id), q, nil, nil)
	return a.body, of(err, id)
}

// Start starts an instance and returns its id. For an empty id the app makes one. Input is JSON; empty means none.
func (c *Client) Start(ctx context.Context, orchestrator, id string, input []byte) (string, error) {
	path := "/orchestrators/" + url.PathEscape(orchestrator)
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	a, err := c.do(ctx, http.MethodPost, path, nil, input, nil)
	if err != nil {
		return "", err
	}
	return a.id()
}

// Raise raises an event. Data is JSON.
func (c *Client) Raise(ctx context.Context, id, event string, data []byte) error {
	_, err := c.do(ctx, http.MethodPost, "/instances/"+url.PathEscape(id)+"/raiseEvent/"+url.PathEscape(event), nil, data, nil)
	return of(err, id)
}

// Operation is what [Client.Do] does to an instance.
type Operation string

// The operations that take a reason.
const (
	Terminate Operation = "terminate"
	Suspend   Operation = "suspend"
	Resume    Operation = "resume"
	Rewind    Operation = "rewind"
)

// Do does an operation.
func (c *Client) Do(ctx context.Context, op Operation, id, reason string) error {
	_, err := c.do(ctx, http.MethodPost, "/instances/"+url.PathEscape(id)+"/"+string(op), url.Values{"reason": {reason}}, nil, nil)
	return of(err, id)
}

// Restart starts an instance again, in its own place or beside it, and returns the new instance's id.
func (c *Client) Restart(ctx context.Context, id string, newID bool) (string, error) {
	q := url.Values{"restartWithNewInstanceId": {strconv.FormatBool(newID)}}
	a, err := c.do(ctx, http.MethodPost, "/instances/"+url.PathEscape(id)+"/restart", q, nil, nil)
	if err != nil {
		return "", of(err, id)
	}
	return a.id()
}

// Purge deletes a finished instance. It refuses an unfinished one, even where the app would delete it.
func (c *Client) Purge(ctx context.Context, id string) error {
	i, err := c.Get(ctx, id, WithoutHistory)
	if err != nil {
		return err
	}
	if !i.IsFinished() {
		return &Error{Status: http.StatusPreconditionFailed, Message: fmt.Sprintf("%s has not finished, it is %s: terminate it before you purge it", id, i.Status)}
	}
	_, err = c.do(ctx, http.MethodDelete, "/instances/"+url.PathEscape(id), nil, nil, nil)
	return of(err, id)
}

// PurgeAll deletes the finished instances that a filter chooses, and returns how many there were. The filter must have a
// From. Without a status PurgeAll adds all finished ones, because the extension would delete running instances too.
func (c *Client) PurgeAll(ctx context.Context, f Filter) (n int, err error) {
	if len(f.Status) == 0 {
		f.Status = []string{"Completed", "Failed", "Terminated", "Canceled"}
	}
	q := f.query()
	a, err := c.do(ctx, http.MethodDelete, "/instances/", q, nil, nil)
	if IsNotFound(err) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	var purged struct{ InstancesDeleted int }
	if err := json.Unmarshal(a.body, &purged); err != nil {
		return 0, a.notUnderstood(err)
	}
	return purged.InstancesDeleted, nil
}

type answer struct {
	body   []byte
	header http.Header
}

func (a answer) id() (string, error) {
	var started struct{ ID string }
	if err := json.Unmarshal(a.body, &started); err != nil || started.ID == "" {
		return "", a.notUnderstood(err)
	}
	return started.ID, nil
}

func (a answer) notUnderstood(err error) error {
	return fmt.Errorf("the answer is not one of the Durable HTTP API: %.200q (%v)", a.body, err)
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte, header http.Header) (a answer, err error) {
	target := c.base + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		r.Header.Set(KeyHeader, c.key)
	}
	response, err := c.http.Do(r)
	if err != nil {
		if inner := (*url.Error)(nil); errors.As(err, &inner) {
			err = inner.Err // the URL is long and left out
		}
		return a, fmt.Errorf("%s does not answer: %w", c.Address(), err)
	}
	defer response.Body.Close()
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return a, fmt.Errorf("%s broke its answer off: %w", c.Address(), err)
	}
	a.header = response.Header
	// A failed orchestration is shown with 200; only on request with 500, and nothing here requests that.
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusAccepted {
		return a, &Error{Status: response.StatusCode, Message: c.explain(response.StatusCode, a.body)}
	}
	return a, nil
}

// explain says what the answer's status means.
func (c *Client) explain(status int, body []byte) string {
	var text string
	var failure struct{ Message, ExceptionMessage string }
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Sprintf("%s refuses the key (%d): give its durabletask_extension system key or its master key with --code or DURABLE_CODE", c.Address(), status)
	case status == http.StatusGone:
		return "it has finished already"
	case json.Unmarshal(body, &text) == nil && text != "":
		return text
	case json.Unmarshal(body, &failure) == nil && failure.ExceptionMessage != "":
		return failure.ExceptionMessage
	case failure.Message != "":
		return failure.Message
	case status == http.StatusNotFound:
		return "not found"
	}
	return fmt.Sprintf("%s answered %d %s", c.Address(), status, http.StatusText(status))
}

// of adds the instance to an error about it.
func of(err error, id string) error {
	if e := (*Error)(nil); errors.As(err, &e) && !strings.Contains(e.Message, id) {
		return &Error{Status: e.Status, Message: id + ": " + e.Message}
	}
	return err
}
