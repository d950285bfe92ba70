package httpapi

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
)

// maxLinks bounds the answer to a start, which is a handful of URLs.
const maxLinks = 1 << 20

var keyInURL = regexp.MustCompile(`([?&]code=)[^&"\\]*`)

// Proxy passes calls of the API on to the app, with the key. The key stays in this process: Proxy removes it from the URLs in
// the answers.
func (c *Client) Proxy() http.Handler {
	target, _ := url.Parse(c.base) // New has already parsed it
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = target.Scheme, target.Host, target.Host
			header := http.Header{}
			for _, name := range []string{"Content-Type", http.CanonicalHeaderKey(continuation)} {
				if v := p.In.Header.Values(name); len(v) > 0 {
					header[name] = v
				}
			}
			if c.key != "" {
				header.Set(KeyHeader, c.key)
			}
			p.Out.Header = header
		},
		ModifyResponse: func(r *http.Response) error {
			for _, name := range []string{"Location", "Set-Cookie", "WWW-Authenticate"} {
				r.Header.Del(name)
			}
			if r.Request.Method != http.MethodPost {
				return nil
			}
			body, err := io.ReadAll(io.LimitReader(r.Body, maxLinks))
			_ = r.Body.Close()
			body = keyInURL.ReplaceAll(body, []byte("$1"))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return err
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"Message":"The app does not answer."}`)
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
}
