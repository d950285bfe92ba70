package cli

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	const host = `{"version":"2.0","extensionBundle":{"id":"Microsoft.Azure.Functions.ExtensionBundle","version":"[4.*, 5.0.0)"},` +
		`"customHandler":{"description":{"defaultExecutablePath":"app"}}}`
	const settings = `{"Values":{"FUNCTIONS_WORKER_RUNTIME":"custom","AzureWebJobsStorage":"UseDevelopmentStorage=true"}}`
	for name, c := range map[string]struct {
		host   string
		binary bool
		strict bool
		code   int
		want   string
	}{
		"good":            {host, true, true, 0, "errors: 0, warnings: 0"},
		"warning":         {host, false, false, 0, "errors: 0, warnings: 1"},
		"warning, strict": {host, false, true, ExitStrict, "errors: 0, warnings: 1"},
		"error":           {strings.Replace(host, "2.0", "3.0", 1), true, false, ExitRejected, `host.json:1: "version" is "3.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			testkit.WriteFile(t, filepath.Join(dir, "host.json"), c.host)
			testkit.WriteFile(t, filepath.Join(dir, "local.settings.json"), settings)
			testkit.WriteFile(t, filepath.Join(dir, "Work", "function.json"), `{"bindings":[{"name":"input","type":"activityTrigger"}]}`)
			if c.binary {
				testkit.WriteFile(t, filepath.Join(dir, "app"), "")
			}
			var out bytes.Buffer
			err := (&checkCommand{Strict: c.strict, Dir: dir}).Run(&Environment{Stdout: &out, Stderr: &out})
			var e exit
			if errors.As(err, &e); e.code != c.code || !strings.Contains(out.String(), c.want) {
				t.Errorf("exit code %d, %s; want %d and %s", e.code, &out, c.code, c.want)
			}
		})
	}
}
