// Package loopback tells this machine's own addresses from those of the network. A web page in a browser on this machine can reach
// a loopback port under a name of its own. The Host header of its requests shows that name.
//
//	http.Handle("/", loopback.Only(handler))
//	if !loopback.Is(r.Host) { … } // refuse
package loopback

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Is says whether a host, with or without a port, is localhost or a loopback address.
func Is(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}

// Only answers 403 to requests that a foreign web site may have sent through a browser on this machine: under a name of its own
// (DNS rebinding), or from its own pages. A page may call if its origin is a loopback address, or if a function in allowed accepts
// it.
func Only(next http.Handler, allowed ...func(origin string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Is(r.Host) || !isOwn(r) && !isAllowed(r.Header.Get("Origin"), allowed) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwn says that no page of another site has made the request.
func isOwn(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return false
	}
	origin := r.Header.Get("Origin")
	u, err := url.Parse(origin)
	return origin == "" || err == nil && Is(u.Host)
}

func isAllowed(origin string, allowed []func(string) bool) bool {
	for _, f := range allowed {
		if f(origin) {
			return true
		}
	}
	return false
}
