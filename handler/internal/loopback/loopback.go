// Package loopback tells this machine's own addresses from those of the network. A web page in a browser on this machine can
// reach a loopback port under a name of its own, and the Host header of its requests gives that away.
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

// Only answers 403 to requests that a web site may have made a browser on this machine send: under a name of its own (DNS
// rebinding), or from its own pages. Pages whose origin is a loopback address may call, and those that a function in allowed
// accepts.
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
