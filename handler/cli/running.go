package cli

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Where a running start takes messages is kept in a file of its data directory, for the commands that find the
// directory taken. Whoever gets the directory removes the file that a killed start left.

func addressFile(data string) string { return filepath.Join(data, "address") }

func keepAddress(data, address string) error { return writeFile(addressFile(data), address) }

func forgetAddress(data string) { _ = os.Remove(addressFile(data)) }

// runningAt returns the address of the start that runs on the data directory, "" if there is none to be found. It
// believes no file that names anything but a loopback port where somebody listens.
func runningAt(data string) string {
	text, err := os.ReadFile(addressFile(data))
	if err != nil {
		return ""
	}
	address, err := netip.ParseAddrPort(string(text))
	if err != nil || !address.Addr().IsLoopback() {
		return ""
	}
	conn, err := net.DialTimeout("tcp", address.String(), time.Second)
	if err != nil {
		return ""
	}
	conn.Close()
	return address.String()
}

// maxPasted is the longest message that is printed as part of a command.
const maxPasted = 4000

// postCommand is the shell command that posts a message, which was read from file, to a running start.
func postCommand(address, function, file, message string) string {
	curl := fmt.Sprintf("curl -i http://%s/admin/functions/%s -H 'Content-Type: application/json'", address, function)
	body, err := marshalPrintable(map[string]string{"input": message})
	if err == nil && len(body) <= maxPasted {
		return curl + " -d " + shellQuote(body)
	}
	jq := "jq -Rs '{input:.}'"
	if file != "-" {
		jq += " " + shellQuote(file)
	}
	return jq + " | " + curl + " -d @-"
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
