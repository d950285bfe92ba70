// Package tests runs the built binary and tests it from outside: through its commands, as a user does, and over its port, as the
// Functions host does.
package tests

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // reads the data directory

	"example.com/durablefunctions/internal/testkit"
)

// executable is the path of the built binary, and root is its app root.
var executable, root string

func TestMain(m *testing.M) {
	os.Exit(testkit.Main(m, func(dir string) (err error) {
		if root, err = filepath.Abs(".."); err == nil {
			executable, err = testkit.Build(root, ".", dir)
		}
		return err
	}))
}

// command prepares a run of the binary with the environment of a developer's shell. Of the app's settings it has only the given
// ones.
func command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, executable, args...)
	cmd.Dir = root
	cmd.Env = []string{"STORE_ATTEMPTS=2", "STORE_WAIT=100ms", "PROCESS_RETRY_INTERVAL=100ms"} // short waits for the tests
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "SystemRoot", "TEMP", "TMP", "USERPROFILE", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// result is the exit code and the output of a command.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := command(ctx, env, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// report is what process --json prints.
type report struct {
	InstanceID    *string `json:"instanceId"`
	RuntimeStatus *string `json:"runtimeStatus"`
	Output        *output `json:"output"`
	Error         string  `json:"error"`
	Mails         []struct {
		To, Subject string
		Path        *string
	} `json:"mails"`
	ElapsedMs *int64 `json:"elapsedMs"`
}

type output struct {
	Total, Succeeded, Failed int
	Failures                 []struct{ RecordId, ErrorMessage string }
	Mail                     string
}

func parseReport(t *testing.T, r result) report {
	t.Helper()
	var rep report
	d := json.NewDecoder(strings.NewReader(r.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&rep); err != nil {
		t.Fatalf("stdout %q is not a report: %v (stderr %s)", r.stdout, err, r.stderr)
	}
	if d.More() {
		t.Errorf("stdout holds more than the report: %q", r.stdout)
	}
	return rep
}

// query reads a number from a SQLite file of the data directory.
func query(t *testing.T, path, statement string) (n int) {
	t.Helper()
	scan(t, path, statement, &n)
	return n
}

// text reads a text from it.
func text(t *testing.T, path, statement string) (s string) {
	t.Helper()
	scan(t, path, statement, &s)
	return s
}

func scan(t *testing.T, path, statement string, into any) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(statement).Scan(into); err != nil {
		t.Fatal(err)
	}
}

// recordIDs returns n ids of records: and so on.
func recordIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("R-", i)
	}
	return ids
}

// copyRoot copies the files that the host reads in the app root.
func copyRoot(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"host.json", "MyClientFunction/function.json", "MyOrchestration/function.json", "ProcessActivity/function.json"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(dir, name), string(text))
	}
}

// waitUntil waits until a condition is true, for at most a minute.
func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}
