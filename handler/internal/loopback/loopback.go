// Package loopback tells this machine's own addresses from those of the network. A web page in a browser on this machine can
// reach a loopback port under a name of its own, and the Host header of its requests gives that away.
//
//	if !loopback.Is(r.Host) { … } // refuse
package loopback

import (
	"net"
	"strings"
)

// Is says whether a host, with or without a port, is localhost or a loopback address.
func Is(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}
