package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/internal/plainjson"
)

// ManagementURLs are the addresses of the host's HTTP API for one instance. They hold the host's key: whoever has them may
// steer every instance of the task hub, so give them only to callers that may, and log none.
type ManagementURLs = httpapi.ManagementURLs

// ManagementURLs returns the URLs by which the caller of r looks after an instance. They begin as the URL that r was sent
// to; with useForwardedHost of host.json, as a proxy says that it was. Where r is nil or does not tell, they begin with
// the host's own address.
func (c *Client) ManagementURLs(r *http.Request, id string) (ManagementURLs, error) {
	if err := CheckID(id); err != nil {
		return ManagementURLs{}, err
	}
	b := c.urls()
	base := b.baseURL(r)
	if base == "" {
		return ManagementURLs{}, fmt.Errorf("the URLs of %q are not known: the durableClient binding has no httpBaseUrl and the request no host", id)
	}
	return httpapi.NewManagementURLs(base, b.query(), id), nil
}

// query is what every URL asks with.
func (b binding) query() string {
	connection := b.ConnectionName
	if connection == "" {
		connection = "Storage"
	}
	query := "taskHub=" + httpapi.Escape(b.TaskHubName) + "&connection=" + httpapi.Escape(connection)
	if b.RequiredQuery != "" {
		query += "&" + b.RequiredQuery
	}
	return query
}

func (b binding) baseURL(r *http.Request) string {
	if r == nil {
		return b.HTTPBaseURL
	}
	if b.UseForwardedHost != nil && *b.UseForwardedHost {
		if base := origin(firstOf(r.Header.Get("X-Forwarded-Proto"), "https"), firstOf(r.Header.Get("X-Forwarded-Host"), "")); base != "" {
			return base + httpapi.Path
		}
	}
	if r.URL != nil {
		if base := origin(r.URL.Scheme, r.URL.Host); base != "" {
			return base + httpapi.Path
		}
	}
	return b.HTTPBaseURL
}

// origin is empty unless the two make the beginning of a URL.
func origin(scheme, host string) string {
	u, err := url.Parse(scheme + "://" + host)
	if err != nil || scheme != "http" && scheme != "https" || host == "" || u.Host != host {
		return ""
	}
	return u.String()
}

// firstOf is the first value of a header that each proxy adds to.
func firstOf(header, otherwise string) string {
	if first, _, _ := strings.Cut(header, ","); strings.TrimSpace(first) != "" {
		return strings.TrimSpace(first)
	}
	return otherwise
}

// CheckStatusResponse answers r, which started the instance or asks for it, as the host's own HTTP API answers a start:
// 202, with the URLs in the body and that of the status in Location.
func CheckStatusResponse(w http.ResponseWriter, r *http.Request, c *Client, id string) error {
	urls, err := c.ManagementURLs(r, id)
	if err != nil {
		return err
	}
	w.Header().Set("Location", urls.StatusQueryGet)
	w.Header().Set("Retry-After", "10")
	return writeJSON(w, http.StatusAccepted, urls)
}

// WaitOrCheckStatus waits for the instance to end, for so long at most. It then answers r as the other SDKs'
// WaitForCompletionOrCreateCheckStatusResponse: with the output of one that completed, with the status of one that ended
// otherwise, both 200, and with [CheckStatusResponse] where it has not ended.
func WaitOrCheckStatus(w http.ResponseWriter, r *http.Request, c *Client, id string, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(r.Context(), atMost)
	defer cancel()
	switch i, err := c.Wait(ctx, id); {
	case err != nil && errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil:
		return CheckStatusResponse(w, r, c, id)
	case err != nil:
		return err
	case i.RuntimeStatus == api.RUNTIME_STATUS_COMPLETED:
		return writeJSON(w, http.StatusOK, asJSON(i.SerializedOutput))
	default:
		return writeJSON(w, http.StatusOK, newStatusBody(i))
	}
}

// statusBody is how the host's HTTP API shows an instance.
type statusBody struct {
	Name            string          `json:"name"`
	InstanceID      string          `json:"instanceId"`
	ParentID        string          `json:"parentInstanceId,omitempty"`
	RuntimeStatus   string          `json:"runtimeStatus"`
	Input           json.RawMessage `json:"input"`
	CustomStatus    json.RawMessage `json:"customStatus"`
	Output          json.RawMessage `json:"output"`
	CreatedTime     string          `json:"createdTime"`
	LastUpdatedTime string          `json:"lastUpdatedTime"`
}

func newStatusBody(i *Instance) statusBody {
	const seconds = "2006-01-02T15:04:05Z"
	return statusBody{
		Name: i.Name, InstanceID: string(i.InstanceID), ParentID: i.ParentID, RuntimeStatus: historyevent.StatusName(i.RuntimeStatus),
		Input: asJSON(i.SerializedInput), CustomStatus: asJSON(i.SerializedCustomStatus), Output: asJSON(i.SerializedOutput),
		CreatedTime: i.CreatedAt.UTC().Format(seconds), LastUpdatedTime: i.LastUpdatedAt.UTC().Format(seconds),
	}
}

// asJSON is a text that is JSON as it is, another one as a JSON string, none as null.
func asJSON(text string) json.RawMessage {
	if text == "" {
		return json.RawMessage("null")
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, _ := json.Marshal(text) // a string can be JSON
	return quoted
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	text, err := plainjson.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, err = w.Write(text)
	return err
}
