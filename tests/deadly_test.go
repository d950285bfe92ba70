package tests

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// TestRecordThatKillsTheProcess: a record at which process after process dies is given up after five of them, and is in the result
// with the reason; the others are processed.
func TestRecordThatKillsTheProcess(t *testing.T) {
	t.Parallel()
	const deadly = "R-3"
	asked := make(chan struct{})
	crm := testkit.StartCRM(t, func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method == http.MethodGet || testkit.RecordOf(r) != deadly {
			return false
		}
		select {
		case asked <- struct{}{}:
		case <-r.Context().Done():
		}
		<-r.Context().Done() // until the process is dead
		return true
	})
	crm.Records = recordIDs(10)
	env := []string{"CRM_BASE_URL=" + crm.URL, "CRM_TOKEN=secret", "PROCESS_ATTEMPTS=2"}
	message := testkit.WriteFile(t, filepath.Join(t.TempDir(), "message.json"), `{"Batch":"all"}`)
	data := t.TempDir()
	deaths := 0
	for ended := false; !ended; {
		p := startProcess(t, env, "process", "--data", data, message)
		select {
		case <-asked:
			if deaths++; deaths > 5 {
				t.Fatal("the record is tried for ever")
			}
			p.kill()
		case <-p.ended:
			ended = true
			if out := p.out.String(); !strings.Contains(out, "9 succeeded, 1 failed") || !strings.Contains(out, deadly) || !strings.Contains(out, "5 times the process died") {
				t.Errorf("it ends with %s", out)
			}
		}
		p.kill()
	}
	if deaths != 5 {
		t.Errorf("%d processes died", deaths)
	}
}
