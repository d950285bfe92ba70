package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// HTTPRequest is a request that the host received for an httpTrigger. The Url may hold an access key, and so may the
// headers.
type HTTPRequest struct {
	Method, URL string
	Headers     map[string][]string
	Params      map[string]string // the route's, without those that are absent
	Body        []byte
}

// DecodeHTTPRequest reads an httpTrigger's value. The errors hold nothing of it.
func DecodeHTTPRequest(value json.RawMessage) (*HTTPRequest, error) {
	var v struct {
		Method, URL string
		Headers     map[string][]string
		Params      map[string]*string
		Body        json.RawMessage
	}
	if json.Unmarshal(value, &v) != nil || v.Method == "" || v.URL == "" {
		return nil, errors.New("the httpTrigger's value is not the object with Method, Url and Headers that the host sends")
	}
	r := &HTTPRequest{Method: v.Method, URL: v.URL, Headers: v.Headers, Params: map[string]string{}}
	for name, value := range v.Params {
		if value != nil {
			r.Params[name] = *value
		}
	}
	text, ok := unquote(v.Body)
	if !ok && string(v.Body) != "null" {
		text = v.Body
	}
	r.Body = text
	if isBase64Type(r.header("Content-Type")) {
		if decoded, err := base64.StdEncoding.AppendDecode(make([]byte, 0, len(text)), text); err == nil {
			r.Body = decoded
		}
	}
	return r, nil
}

func (r *HTTPRequest) header(name string) string {
	for key, values := range r.Headers {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// isBase64Type says whether the host sends the bodies of a Content-Type as base64. It takes all others for UTF-8.
func isBase64Type(contentType string) bool {
	mediaType, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	mediaType = strings.TrimSpace(mediaType)
	return mediaType == "application/octet-stream" || strings.Contains(mediaType, "multipart/")
}

// ErrNotCarried says that an answer cannot go through the host's envelope.
var ErrNotCarried = errors.New("the host cannot carry the answer in an invocation: " +
	"set customHandler.enableForwardingHttpRequest in host.json, and leave the function nothing but its httpTrigger and its http output")

// EncodeHTTPResponse makes the value of an http output. The body is a string, in which the host alters nothing, unless the whole of
// it looks like a date: such a body gets a line feed at its end, and such a header a blank, which HTTP ignores. Several values of a
// header are joined to one. The error is an [ErrNotCarried].
func EncodeHTTPResponse(status int, headers map[string][]string, body []byte) (json.RawMessage, error) {
	if !utf8.Valid(body) {
		return nil, fmt.Errorf("%w: its body is not text in UTF-8", ErrNotCarried)
	}
	out := struct {
		StatusCode int               `json:"statusCode"`
		Headers    map[string]string `json:"headers"`
		Body       string            `json:"body"`
	}{status, map[string]string{}, undated(string(body), "\n")}
	for name, values := range headers {
		if isHostsHeader(name) || len(values) == 0 {
			continue
		}
		switch value := strings.Join(values, ", "); {
		case strings.EqualFold(name, "Set-Cookie") && len(values) > 1:
			return nil, fmt.Errorf("%w: it sets %d cookies, and each header has one value", ErrNotCarried, len(values))
		case !utf8.ValidString(value), strings.HasPrefix(name, "$"):
			return nil, fmt.Errorf("%w: the header %q", ErrNotCarried, name)
		default:
			out.Headers[name] = undated(oneLine.Replace(value), " ")
		}
	}
	return json.Marshal(out)
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

// undated returns text with the end behind it if it looks like a date to the host.
func undated(text, end string) string {
	if quoted, err := json.Marshal(text); err == nil && looksLikeDate(quoted[1:len(quoted)-1]) {
		return text + end
	}
	return text
}

// isHostsHeader says that a header is about the connection, which is the host's.
func isHostsHeader(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "keep-alive", "content-length", "transfer-encoding", "trailer", "upgrade", "date":
		return true
	}
	return strings.HasPrefix(name, "Trailer:")
}
