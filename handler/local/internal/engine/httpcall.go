package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/plainjson"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

const (
	maxHTTPContent = 16 << 20
	httpTimeout    = 100 * time.Second // the real host's default
)

var httpClient = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: true, IdleConnTimeout: time.Minute}}

// runHTTPActivity makes an HTTP call for an orchestrator. The real host does that in an activity of its own. A call that cannot be
// made is a failure without details, as on the real host; the log has the reason.
func (e *Engine) runHTTPActivity(ctx context.Context, id api.InstanceID, scheduled *backend.HistoryEvent) (*backend.HistoryEvent, error) {
	result, err := e.callHTTP(ctx, scheduled.GetTaskScheduled().GetInput().GetValue())
	switch {
	case err == nil:
		return taskhub.TaskCompleted(scheduled.GetEventId(), result), nil
	case e.invoker.Closing.Err() != nil:
		return nil, e.invoker.Closing.Err()
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // without the address, which may hold a key
	}
	e.log.Error("an HTTP call of an orchestration could not be made", "instance", id, "error", err)
	return taskhub.TaskFailed(scheduled.GetEventId(), nil), nil
}

func (e *Engine) callHTTP(ctx context.Context, input string) ([]byte, error) {
	var calls []durable.HTTPRequest
	if err := json.Unmarshal([]byte(input), &calls); err != nil {
		return nil, err
	}
	if len(calls) != 1 {
		return nil, fmt.Errorf("the input holds %d calls, and not one", len(calls))
	}
	call := calls[0]
	if call.Identity != "" {
		return nil, errors.New("there is no managed identity on this machine: call without Identity, or run the app in Azure")
	}
	ctx, stop := e.invoker.Limit(ctx)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(call.Timeout, httpTimeout))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, cmp.Or(call.Method, http.MethodGet), call.URL, strings.NewReader(call.Body))
	if err != nil {
		return nil, err
	}
	for name, values := range call.Header {
		for _, value := range values {
			request.Header.Add(name, value)
		}
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readHTTPResponse(response)
}

// readHTTPResponse returns the activity's result. As on the real host, it leaves out the headers that describe the content.
func readHTTPResponse(response *http.Response) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(response.Body, maxHTTPContent+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxHTTPContent {
		return nil, fmt.Errorf("the answer is longer than %d bytes", maxHTTPContent)
	}
	header := durable.HTTPHeader{}
	for name, values := range response.Header {
		switch {
		case strings.HasPrefix(name, "Content-"), name == "Allow", name == "Expires", name == "Last-Modified":
		default:
			header[name] = values
		}
	}
	return plainjson.Marshal(durable.HTTPResponse{StatusCode: response.StatusCode, Header: header, Body: strings.ToValidUTF8(string(content), "\uFFFD")})
}
