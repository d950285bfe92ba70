package funchost

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
)

// HTTPCall is a request of a client for a function with an httpTrigger.
type HTTPCall struct {
	Method, URL string
	Headers     http.Header // with the header Host
	Body        []byte
	Names       []string // of the route's parameters
	Params      map[string]string
}

// posted returns the client request that a message stands for.
func posted(f config.Function, m Message) HTTPCall {
	contentType := "text/plain"
	if json.Valid(m.Body) {
		contentType = "application/json"
	}
	return HTTPCall{
		Method: http.MethodPost, URL: "http://127.0.0.1/admin/functions/" + f.Name, Body: m.Body,
		Headers: http.Header{"Host": {"127.0.0.1"}, "Content-Type": {contentType}, "Content-Length": {strconv.Itoa(len(m.Body))}},
	}
}

func escapePath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// HTTPRequest returns the request of an httpTrigger in an envelope.
func HTTPRequest(f config.Function, try Try, c HTTPCall, client Client) []byte {
	var query, last, headers, single, params, value, metadata newtonsoft.Object
	if u, err := url.Parse(c.URL); err == nil {
		values := u.Query()
		for _, name := range sortedKeys(values) {
			lastValue := values[name][len(values[name])-1]
			query.Set(name, newtonsoft.Once(strings.Join(values[name], ",")))
			last.Set(name, newtonsoft.Once(lastValue))
			metadata.Set(name, newtonsoft.Twice(lastValue))
		}
	}
	for _, name := range sortedKeys(c.Headers) {
		list, _ := json.Marshal(c.Headers[name])
		headers.Set(name, list)
		single.Set(name, newtonsoft.Once(strings.Join(c.Headers[name], ",")))
	}
	for _, name := range c.Names {
		params.Set(name, null)
		if text, ok := c.Params[name]; ok {
			params.Set(name, newtonsoft.Once(text))
		}
	}
	value.Set("Url", newtonsoft.Once(c.URL))
	value.Set("Method", newtonsoft.Once(c.Method))
	value.Set("Query", query.Append(nil))
	value.Set("Headers", headers.Append(nil))
	value.Set("Params", params.Append(nil))
	value.Set("Identities", []byte(anonymous))
	if len(c.Body) > 0 {
		value.Set("Body", newtonsoft.Once(bodyText(c.Headers.Get("Content-Type"), c.Body)))
	}
	for _, name := range c.Names {
		if text, ok := c.Params[name]; ok {
			metadata.Set(name, newtonsoft.Twice(text))
		}
	}
	metadata.Set("Query", last.Append(nil))
	metadata.Set("Headers", single.Append(nil))
	metadata.Set("sys", sys(f.Name))
	if properties, err := newtonsoft.Properties([]byte(textOf(c.Body))); err == nil && len(c.Body) > 0 {
		metadata.CopyProperties(properties)
	}
	return request(f, try, value.Append(nil), &metadata, client)
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

const anonymous = `[{"AuthenticationType":null,"IsAuthenticated":false,"Actor":null,"BootstrapContext":null,"Claims":[],"Label":null,"Name":null,` +
	`"NameClaimType":"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name","RoleClaimType":"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}]`

// bodyText returns bytes and forms as base64, and every other body as text.
func bodyText(contentType string, body []byte) string {
	mediaType, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	if mediaType = strings.TrimSpace(mediaType); mediaType == "application/octet-stream" || strings.Contains(mediaType, "multipart/") {
		return base64.StdEncoding.EncodeToString(body)
	}
	return strings.ToValidUTF8(string(body), "\ufffd")
}

// listType is what the host writes in place of a list where it needs a text.
const listType = "System.Collections.Generic.List`1[System.Object]"

// WriteHTTP answers the client with the http output of an answer.
func (a *Answer) WriteHTTP(w http.ResponseWriter, f config.Function) {
	value := a.Outputs[f.HTTPOutput()]
	if len(value) == 0 || string(value) == "null" {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	var answer map[string]json.RawMessage
	_ = json.Unmarshal(value, &answer)
	property := func(names ...string) json.RawMessage {
		for _, name := range names {
			for key, value := range answer {
				if strings.EqualFold(key, name) {
					return value
				}
			}
		}
		return nil
	}
	body := property("body")
	if body == nil {
		writeBody(w, http.StatusOK, value)
		return
	}
	var headers map[string]json.RawMessage
	_ = json.Unmarshal(property("headers"), &headers)
	for name, value := range headers {
		text, _ := httpText(value)
		w.Header().Set(name, text)
	}
	status := http.StatusOK
	if text, _ := httpText(property("statusCode", "status")); text != "" {
		status, _ = strconv.Atoi(text)
	}
	if status < 100 || status > 999 {
		panic(http.ErrAbortHandler) // the host's connection breaks
	}
	writeBody(w, status, body)
}

func writeBody(w http.ResponseWriter, status int, value json.RawMessage) {
	text, contentType := httpText(value)
	if given := w.Header().Get("Content-Type"); given != "" {
		contentType = given
	}
	if !strings.Contains(strings.ToLower(contentType), "charset=") {
		contentType += "; charset=utf-8"
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// httpText returns a value as the host writes it into a body or a header, and the Content-Type that belongs to it.
func httpText(value json.RawMessage) (text, contentType string) {
	const plain = "text/plain"
	switch {
	case len(value) == 0 || string(value) == "null":
		return "", plain
	case value[0] == '{':
		return string(newtonsoft.Compact(value)), "application/json"
	case value[0] == '[':
		return listType, plain
	}
	return newtonsoft.Text(value), plain
}

// Forward sends the client's request to the handler unchanged, and the answer back.
func (t *Transport) Forward(w http.ResponseWriter, r *http.Request, invocationID string, failed func(error)) {
	proxy := &httputil.ReverseProxy{
		Transport:     t.client,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "127.0.0.1", p.In.Host
			p.Out.URL.RawQuery = joinQuery(p.In.URL.RawQuery)
			for name, values := range p.Out.Header {
				p.Out.Header[name] = []string{strings.Join(values, ", ")}
			}
			p.Out.Header.Set("User-Agent", strings.TrimSpace(p.In.UserAgent()+" "+userAgent))
			p.Out.Header.Set("X-Azure-Functions-InvocationId", invocationID)
			p.Out.Header.Set("X-Azure-Functions-HostVersion", hostVersion)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			failed(err)
			w.WriteHeader(http.StatusInternalServerError)
		},
	}
	proxy.ServeHTTP(w, r)
}

// joinQuery joins the values of repeated keys with commas.
func joinQuery(raw string) string {
	var pairs []string
	index := map[string]int{}
	for _, pair := range strings.Split(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if i, ok := index[name]; ok {
			pairs[i] += "," + value
			continue
		}
		index[name] = len(pairs)
		pairs = append(pairs, pair)
	}
	return strings.Join(pairs, "&")
}
