//go:build unix

package performance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// BenchmarkOrchestration130 runs a whole orchestration of 1,000 activities as the real host does: 130 turns, each with the whole
// history, and the activities between them, over one connection to the handler's server in a process of its own. It reports the
// CPU time of that process, and the CPU time of the least work that the turns need.
func BenchmarkOrchestration130(b *testing.B) {
	server, conn := startServer(b, appRoot(b, map[string]string{"Orch": "orchestrationTrigger", "Work": "activityTrigger"}))
	defer conn.Close()
	c := &client{Conn: conn, buffer: make([]byte, 4<<20)}

	turns := history(b, records, 130)
	requests := make([][]byte, len(turns))
	bare := make([]func(), len(turns))
	sent := 0
	for i, t := range turns {
		requests[i], bare[i] = request("Orch", []byte(t.Body())), bareTurn(b, t.Body())
		sent += len(requests[i])
	}
	activity := request("Work", activityBody(`{"RecordId":"C-001","JobId":"0123456789abcdef0123456789abcdef"}`))
	const rounds = 5 // several, so that the start of the process counts for little
	orchestrate := func() {
		var answer []byte
		for i, r := range requests {
			if i > 0 {
				for range len(turns[i].New) - 1 {
					c.invoke(b, activity)
				}
			}
			answer = c.invoke(b, r)
		}
		if !completedWith(answer, strconv.Itoa(records)) {
			b.Fatalf("the last turn's answer is %s", answer)
		}
	}
	for b.Loop() {
		for range rounds {
			orchestrate()
		}
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	report(b, (server.ProcessState.UserTime()+server.ProcessState.SystemTime()).Seconds()/float64(rounds*b.N), "cpu-s/orchestration")
	before := cpuTime(b)
	for range rounds {
		for _, turn := range bare {
			turn()
		}
	}
	report(b, (cpuTime(b)-before).Seconds()/rounds, "bare-cpu-s/orchestration")
	report(b, float64(sent)/1e6, "MB-of-turns")
}

// This test program is also the handler's process, with an app that fans out.
func init() {
	if os.Getenv(handler.PortVariable) == "" {
		return
	}
	type record struct{ RecordId, JobId string }
	type result struct{ Success bool }
	process := durable.ActivityName[record, result]("Work")
	app := handler.New()
	app.Activity("Work", durable.Activity(func(context.Context, record) (result, error) { return result{true}, nil }))
	app.Orchestrator("Orch", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (int, error) {
		retry := durable.WithRetry(durable.RetryPolicy{Attempts: 3})
		return len(durable.FanOut(ctx, process, make([]record, records), nil, retry)), nil
	}))
	os.Exit(app.Serve())
}

// startServer starts the handler's process and connects to it.
func startServer(b *testing.B, root string) (*exec.Cmd, net.Conn) {
	b.Helper()
	port := testkit.FreePort(b)
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), handler.PortVariable+"="+port, "FUNCTIONS_APP_ROOT_PATH="+root)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Process.Kill() })
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			return server, conn
		}
		if time.Since(begun) > time.Minute {
			b.Fatal(err)
		}
	}
}

// request makes a whole HTTP request as the host sends it, in chunks.
func request(function string, body []byte) []byte {
	return fmt.Appendf(nil, "POST /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Azure-Functions-Host/4.1037.0.0\r\n"+
		"X-Azure-Functions-HostVersion: 4.1037.0.0\r\nX-Azure-Functions-InvocationId: 7495a73d-2521-4ff1-82a0-847117e3703a\r\n"+
		"Content-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", function, len(body), body)
}

// client sends prepared requests over one connection.
type client struct {
	net.Conn
	buffer []byte
}

// invoke sends a request and returns the whole answer. The answer is valid until the next call.
func (c *client) invoke(b *testing.B, request []byte) []byte {
	if _, err := c.Write(request); err != nil {
		b.Fatal(err)
	}
	n := 0
	for !whole(c.buffer[:n]) {
		m, err := c.Read(c.buffer[n:])
		if err != nil {
			b.Fatal(err)
		}
		n += m
	}
	if answer := c.buffer[:n]; !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		b.Fatalf("answer %s", answer)
	}
	return c.buffer[:n]
}

// whole says whether an HTTP answer is complete.
func whole(answer []byte) bool {
	header, body, ok := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !ok {
		return false
	}
	_, length, ok := bytes.Cut(header, []byte("Content-Length: "))
	if !ok {
		return bytes.HasSuffix(body, []byte("\r\n0\r\n\r\n"))
	}
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, err := strconv.Atoi(string(length))
	return err == nil && len(body) >= n
}

// completedWith says whether the answer to a turn, which has no chunks, completes the orchestration with this output.
func completedWith(answer []byte, output string) bool {
	_, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
	var response struct{ ReturnValue string }
	if json.Unmarshal(body, &response) != nil {
		return false
	}
	raw, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, strings.NewReader(response.ReturnValue)))
	return err == nil && bytes.Contains(raw, []byte(output))
}

// cpuTime is the CPU time that the process has used so far, in its own code and in the kernel.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
