package local

import (
	"fmt"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/internal/testkit"
)

// TestRetention: what has ended is deleted with its history after the retention, also while the host runs. Without a retention
// nothing is deleted.
func TestRetention(t *testing.T) {
	t.Parallel()
	for _, retention := range []time.Duration{100 * time.Millisecond, 0} {
		t.Run(fmt.Sprint(retention), func(t *testing.T) {
			t.Parallel()
			h := open(t, testkit.NewApp(t).Orchestrator(fanOut), func(o *Options) { o.Retention = retention })
			start(t, h, "short", "1")
			db := openFile(t, h.dataDir)
			left := func() (n int) {
				if err := db.QueryRow("SELECT (SELECT COUNT(*) FROM instances) + (SELECT COUNT(*) FROM history)").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			if retention > 0 {
				waitFor(t, func() bool { return left() == 0 })
				return
			}
			expect(t, wait(t, h, "short"), api.RUNTIME_STATUS_COMPLETED, "0")
			if _, err := db.Exec("UPDATE instances SET updated = 1"); err != nil {
				t.Fatal(err)
			}
			expect(t, run(t, h, "new", "1"), api.RUNTIME_STATUS_COMPLETED, "0")
			if _, err := h.Instance(t.Context(), "short"); err != nil {
				t.Error(err)
			}
		})
	}
}
