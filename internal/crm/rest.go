package crm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	maxAttempts     = 4
	firstRetryWait  = 500 * time.Millisecond // doubled for each further one
	maxRetryWait    = 30 * time.Second       // however long Retry-After asks for
	listTimeout     = 30 * time.Second       // for the answer to a batch, unless CRM_TIMEOUT says otherwise
	maxResponseBody = 16 << 20               // bytes
	maxRefusal      = 500                    // characters of the CRM's words in an error
)

// REST is a [Store] behind two calls of a REST API:
//
//	GET  {base}/batches/{batch}/records  →  200 {"RecordIds": ["C-001", 17, …]}, or 404: no such batch
//	POST {base}/records/{id}/process     {"JobId": …}  →  2xx, or 4xx: this record failed
//
// The POST has the header "Idempotency-Key: {JobId}/{RecordId}", by which the CRM recognizes a repeated call. The words of a 4xx
// answer, plain text or the "message", "error" or "title" of a JSON object, go into the [*RecordError].
//
// The statuses 429 and 5xx and failed connections are tried again, 4 attempts in all, one after the other, after waits
// that grow from half a second or that Retry-After asks for (30 seconds at most). When they fail, too, and for 408, 409
// and 425, the error is an [*UnavailableError]. After 401 or 403 no record is sent for ten seconds. Redirects are not
// followed: one could carry the token to another host.
//
// Without a timeout, an attempt may take until the context ends for a record, and 30 seconds for a batch. With a timeout, each
// attempt may take as long as that. A record whose attempt took too long is not sent again at once, because the CRM may still be
// working on it.
type REST struct {
	base             string // without a slash at its end
	host             string
	token            string
	batches, records *retryablehttp.Client // what each kind of request goes through

	refusedLast atomic.Pointer[refusal] // nil: never
}

// NewREST returns the store at baseURL, an absolute http or https URL. Each request has the token as its bearer token; it may be
// empty. The timeout is for one attempt; 0 means until the context ends.
func NewREST(baseURL, token string, timeout time.Duration) (*REST, error) {
	base, err := url.Parse(strings.TrimSpace(baseURL))
	switch {
	case err != nil: // without err, which contains the URL and perhaps a password in it
		return nil, errors.New("the base URL is not a URL; it must look like https://crm.example.com/api")
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "":
		return nil, errors.New("the base URL must be absolute and begin with http:// or https://")
	case base.User != nil, base.RawQuery != "", base.ForceQuery, base.Fragment != "":
		return nil, errors.New("the base URL must have no user, query or fragment; a secret belongs in the token")
	}
	token = strings.TrimSpace(token)
	if token != "" && base.Scheme == "http" && !isLoopback(base.Hostname()) {
		return nil, errors.New("the token would cross the network in the clear: use https://, or http:// to this machine only")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token holds characters that a header cannot carry")
	}
	return &REST{
		base: strings.TrimRight(base.String(), "/"), host: base.Host, token: token,
		batches: newClient(cmp.Or(timeout, listTimeout)), records: newClient(timeout),
	}, nil
}

func isLoopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// once sends each request at most once. Without it, net/http would repeat a request that has an Idempotency-Key when a connection
// that it kept turns out to be closed, and nobody would count these attempts.
type once struct{ http.RoundTripper }

func (t once) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.Clone(r.Context())
		r.GetBody = nil // what cannot be read again is not sent again
	}
	return t.RoundTripper.RoundTrip(r)
}

func newClient(timeout time.Duration) *retryablehttp.Client {
	client := retryablehttp.NewClient()
	client.Logger = nil
	client.RetryMax = maxAttempts - 1
	client.RetryWaitMin = firstRetryWait
	client.RetryWaitMax = maxRetryWait
	client.Backoff = boundedBackoff
	client.CheckRetry = checkRetry
	client.ErrorHandler = giveUp
	client.HTTPClient.Timeout = timeout
	client.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if transport, ok := client.HTTPClient.Transport.(*http.Transport); ok {
		transport.MaxIdleConnsPerHost = transport.MaxIdleConns // all go to one host
		client.HTTPClient.Transport = once{transport}
	}
	return client
}

// lastAttempt is the key under which a request's context holds an *error: why the last attempt failed and is repeated.
type lastAttempt struct{}

// checkRetry says whether to try again after an attempt.
func checkRetry(ctx context.Context, resp *http.Response, err error) (again bool, _ error) {
	again, checked := retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	switch timeout, ok := errors.AsType[net.Error](err); {
	case ctx.Err() != nil:
	case ok && timeout.Timeout() && isPost(err):
		again = false // the CRM may still be working on it
	case err == nil && resp.StatusCode == http.StatusNotImplemented:
		again, checked = true, nil // the library's policy leaves it out of the 5xx
	}
	if last, ok := ctx.Value(lastAttempt{}).(*error); ok {
		*last = nil
		if again && err == nil {
			*last = fmt.Errorf("status %s", statusText(resp.StatusCode))
		} else if again {
			*last = withoutURL(err)
		}
	}
	return again, checked
}

// isPost says whether the error is from a POST, which must not be sent again while the CRM may still work on the first one.
func isPost(err error) bool {
	failure, ok := errors.AsType[*url.Error](err)
	return ok && failure.Op == "Post"
}

// Records implements [Store], in the CRM's order.
func (r *REST) Records(ctx context.Context, batch string) ([]string, error) {
	noBatch := fmt.Errorf("batch %q: %w", oneLine(batch, 100), ErrNoBatch)
	if !addressable(batch) {
		return nil, noBatch
	}
	got, err := r.do(ctx, r.batches, http.MethodGet, "/batches/"+url.PathEscape(batch)+"/records", "", nil)
	switch {
	case err != nil:
		return nil, err
	case got.status == http.StatusNotFound:
		return nil, noBatch
	case !got.ok():
		return nil, r.refused(got)
	}
	ids, err := recordIDs(got.body)
	if err != nil {
		return nil, r.hidden(fmt.Errorf("crm at %s: the answer for batch %q: %w", r.host, oneLine(batch, 100), err))
	}
	return ids, nil
}

// Process implements [Store]. The CRM processes a record once per job, by the Idempotency-Key.
func (r *REST) Process(ctx context.Context, jobID, recordID string) error {
	if !addressable(jobID) {
		return fmt.Errorf("crm at %s: the job id %q cannot be part of a request", r.host, oneLine(jobID, 100))
	}
	if !addressable(recordID) {
		return &RecordError{RecordID: recordID, Reason: "has an id that cannot be part of a URL"}
	}
	body, err := json.Marshal(struct{ JobId string }{jobID})
	if err != nil {
		return err
	}
	if err := r.refusal(); err != nil {
		return err
	}
	got, err := r.do(ctx, r.records, http.MethodPost, "/records/"+url.PathEscape(recordID)+"/process", idempotencyKey(jobID, recordID), body)
	switch {
	case err != nil:
		return err
	case got.ok():
		return nil
	case got.isRefusal():
		return r.remember(r.refused(got))
	case got.status >= 400 && got.status < 500 && !got.isTemporary():
		return &RecordError{RecordID: recordID, Reason: "was refused by the CRM: " + r.words(got)}
	}
	return r.refused(got)
}

// idempotencyKey returns the job and the record. HTTP removes blanks at both ends of a header, so " 1" would get the key of "1".
// Therefore such an id is escaped. So is an id with a %, because no two ids may have the same key.
func idempotencyKey(jobID, recordID string) string {
	if strings.TrimSpace(recordID) != recordID || strings.Contains(recordID, "%") {
		recordID = url.PathEscape(recordID)
	}
	return jobID + "/" + recordID
}

// Close closes idle connections.
func (r *REST) Close() error {
	r.batches.HTTPClient.CloseIdleConnections()
	r.records.HTTPClient.CloseIdleConnections()
	return nil
}

// addressable says whether s can be a segment of the path and part of a header. One dot or two dots would name another path.
func addressable(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsFunc(s, unicode.IsControl)
}

// answer is the CRM's answer to the last attempt.
type answer struct {
	status int
	body   []byte
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// isTemporary says whether the same request may succeed later: a fault of the server, too many requests, a request that took too
// long, or one whose Idempotency-Key is still being worked on.
func (a answer) isTemporary() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return a.status >= 500
}

// isRefusal says whether the CRM refuses this program, whatever the record.
func (a answer) isRefusal() bool {
	return a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
}

// refusalTime is how long a refusal counts for all records, so that a wrong token costs one request and not one for each record.
const refusalTime = 10 * time.Second

// refusal is the CRM's answer when it refused this program.
type refusal struct {
	err   error
	until time.Time
}

func (r *REST) remember(err error) error {
	r.refusedLast.Store(&refusal{err, time.Now().Add(refusalTime)})
	return err
}

// refusal returns the error of a refusal that still stands.
func (r *REST) refusal() error {
	if last := r.refusedLast.Load(); last != nil && time.Now().Before(last.until) {
		return last.err
	}
	return nil
}

// do sends a request to the CRM, several times if necessary. The error is an [*UnavailableError]. A status that makes no other
// attempt useful is an answer and not an error.
func (r *REST) do(ctx context.Context, client *retryablehttp.Client, method, path, idempotencyKey string, body []byte) (answer, error) {
	var content any // a nil []byte would be an empty body
	if body != nil {
		content = body
	}
	var last error
	req, err := retryablehttp.NewRequestWithContext(context.WithValue(ctx, lastAttempt{}, &last), method, r.base+path, content)
	if err != nil {
		return answer{}, fmt.Errorf("crm at %s: %w", r.host, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", idempotencyKey)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	var got answer
	req.SetResponseHandler(func(resp *http.Response) (err error) { // read here, so that a body that is cut off leads to another attempt
		defer resp.Body.Close()
		got.status = resp.StatusCode
		got.body, err = io.ReadAll(io.LimitReader(resp.Body, maxResponseBody+1))
		return err
	})
	if _, err := client.Do(req); err != nil {
		if last != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no good answer before the deadline, the last: %w", last)
		}
		return answer{}, unavailable(r.hidden(fmt.Errorf("crm at %s: %w", r.host, withoutURL(err))))
	}
	if len(got.body) > maxResponseBody {
		return answer{}, fmt.Errorf("crm at %s: the answer is larger than %d bytes", r.host, maxResponseBody)
	}
	return got, nil
}

// boundedBackoff is the library's backoff, which waits as long as Retry-After says, with an upper bound.
func boundedBackoff(min, max time.Duration, attempt int, resp *http.Response) time.Duration {
	wait := retryablehttp.DefaultBackoff(min, max, attempt, resp)
	if wait < 0 || wait > max { // below zero: too many seconds for a Duration
		return max
	}
	return wait
}

// giveUp returns the error of the last attempt.
func giveUp(resp *http.Response, err error, attempts int) (*http.Response, error) {
	if resp != nil {
		resp.Body.Close()
		if err == nil {
			err = fmt.Errorf("status %s", statusText(resp.StatusCode))
		}
	}
	return nil, fmt.Errorf("no good answer in %d attempts, the last: %w", attempts, withoutURL(err))
}

// withoutURL removes the URL that net/http puts before an error, because our error already names the host.
func withoutURL(err error) error {
	if failure, ok := err.(*url.Error); ok {
		return failure.Err
	}
	return err
}

// refused returns the error for an answer that is neither good nor about one record.
func (r *REST) refused(got answer) error {
	hint := ""
	switch {
	case got.status >= 300 && got.status < 400:
		hint = "; redirects are not followed: set CRM_BASE_URL to where it leads"
	case got.status == http.StatusUnauthorized, got.status == http.StatusForbidden:
		hint = "; check CRM_TOKEN"
	}
	err := fmt.Errorf("crm at %s: %s%s", r.host, r.words(got), hint)
	if got.isTemporary() {
		return unavailable(err)
	}
	return err
}

// hide removes the token from a text: a CRM may send it back, and net/http quotes what it cannot read.
func (r *REST) hide(text string) string {
	if r.token == "" {
		return text
	}
	return strings.ReplaceAll(text, r.token, "(token)")
}

// hidden returns err without the token in its text.
func (r *REST) hidden(err error) error { return &hiddenError{err, r.hide(err.Error())} }

type hiddenError struct {
	error
	text string
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.error }

// words returns the status and what the CRM says about it, without the token if the CRM repeats it.
func (r *REST) words(got answer) string {
	text := oneLine(r.hide(message(got.body)), maxRefusal)
	if text == "" {
		return "status " + statusText(got.status)
	}
	return fmt.Sprintf("%s (status %s)", text, statusText(got.status))
}

// message returns the text of an error's body: if the body is a JSON object, the first of the usual fields that it has, otherwise
// the whole body.
func message(body []byte) string {
	var fields struct{ Message, Error, Title any }
	if json.Unmarshal(body, &fields) == nil {
		for _, field := range []any{fields.Message, fields.Error, fields.Title} {
			if text, ok := field.(string); ok && text != "" {
				return text
			}
		}
	}
	return string(body)
}

func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// recordIDs reads {"RecordIds":[…]}: strings or whole numbers.
func recordIDs(body []byte) ([]string, error) {
	var list struct{ RecordIds []json.RawMessage }
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("it is not {\"RecordIds\":[…]}: %w", err)
	}
	if list.RecordIds == nil {
		return nil, errors.New("it has no RecordIds")
	}
	ids := make([]string, len(list.RecordIds))
	for i, raw := range list.RecordIds {
		id, ok := recordID(raw)
		if !ok {
			return nil, fmt.Errorf("RecordIds[%d] is %s, not a string or a whole number", i, oneLine(string(raw), 100))
		}
		ids[i] = id
	}
	return ids, nil
}

// recordID returns a number as it is written, because an id may be longer than any number type allows.
func recordID(raw json.RawMessage) (id string, ok bool) {
	if raw[0] == '"' {
		err := json.Unmarshal(raw, &id)
		return id, err == nil && id != ""
	}
	number := string(raw)
	digits := strings.TrimPrefix(number, "-")
	return number, strings.Trim(digits, "0123456789") == ""
}
