package performance

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/internal/testkit"
)

// BenchmarkStart starts the stripped binary as the Functions host does, and measures until its first answer.
func BenchmarkStart(b *testing.B) {
	binary := filepath.Join(b.TempDir(), "app")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		b.Fatal(err)
	}
	var elapsed time.Duration
	var idle float64
	for b.Loop() {
		took, resident := start(b, binary)
		elapsed += took
		idle = max(idle, resident)
	}
	b.ReportMetric(0, "ns/op") // hidden: the time between the starts means nothing
	report(b, elapsed.Seconds()*1000/float64(b.N), "ms-to-answer")
	report(b, float64(info.Size())/1e6, "binary-MB")
	report(b, idle, "idle-MB")
}

// start runs the binary until its first answer. It returns how long that took, and the memory that the process then uses, in MB.
func start(b *testing.B, binary string) (time.Duration, float64) {
	port := testkit.FreePort(b)
	cmd := exec.Command(binary)
	cmd.Dir = root
	cmd.Env = []string{handler.PortVariable + "=" + port, "CRM_DATABASE=" + filepath.Join(b.TempDir(), "crm.db")}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for {
		response, err := http.Get("http://127.0.0.1:" + port)
		if err == nil {
			response.Body.Close()
			break
		}
		if time.Since(begun) > time.Minute {
			b.Fatal(err)
		}
		time.Sleep(200 * time.Microsecond) // nothing tells when it listens; the host asks again and again, too
	}
	took := time.Since(begun)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return took, kilobytes * 1024 / 1e6
}
