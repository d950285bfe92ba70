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

// A running start keeps its address in a file of its data directory, for commands that find the directory in use. The next
// process that opens the directory removes the file of a start that was killed.

func addressFile(data string) string { return filepath.Join(data, "address") }

func keepAddress(data, address string) error { return writeFile(addressFile(data), address) }

func forgetAddress(data string) { _ = os.Remove(addressFile(data)) }

// runningAt returns the address of the start that runs on the data directory, "" if it finds none. It accepts only a loopback
// port where a process listens, whatever the file says.
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

// maxPasted is the length of the longest message that is printed inside a command.
const maxPasted = 4000

// postCommand returns the shell command that posts a message, read from file, to a running start.
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
