package tests

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A message with 20,000 records: each record is processed exactly once, the totals, the failures and the one mail cover all
// records, and no orchestration's history is larger than a batch makes it.
func TestTwentyThousandRecords(t *testing.T) {
	t.Parallel()
	const records, size = 20_000, 100
	data := t.TempDir()
	var csv strings.Builder
	var bad []string
	csv.WriteString("RecordId,Batch,Name,Email\n")
	for i := range records {
		email := fmt.Sprintf("customer%d@example.com", i)
		if i%100 == 99 {
			email = "nobody"
			bad = append(bad, fmt.Sprintf("R-%05d", i))
		}
		fmt.Fprintf(&csv, "R-%05d,large,Customer %d,%s\n", i, i, email)
	}
	if r := run(t, nil, csv.String(), "import", "--data", data, "-"); r.code != 0 {
		t.Fatal(r)
	}
	r := run(t, nil, `{"Batch":"large"}`, "process", "--data", data, "--json", "-")
	rep := parseReport(t, r)
	if r.code != 0 || *rep.RuntimeStatus != "Completed" || rep.Output.Total != records || rep.Output.Succeeded != records-len(bad) ||
		rep.Output.Failed != len(bad) || rep.Output.Mail != "sent" || len(rep.Mails) != 1 {
		t.Fatalf("exit code %d, %.1000s", r.code, r.stdout)
	}
	var failed []string
	for _, f := range rep.Output.Failures {
		failed = append(failed, f.RecordId)
	}
	if !slices.Equal(failed, bad) {
		t.Errorf("failures %v", failed)
	}

	crm, hub := filepath.Join(data, "crm.db"), filepath.Join(data, "taskhub.db")
	for statement, want := range map[string]int{
		"SELECT count(*) FROM customers WHERE batch = 'large' AND processed_count = 1": records - len(bad),
		"SELECT count(*) FROM customers WHERE batch = 'large' AND processed_count > 1": 0,
		"SELECT count(DISTINCT job_id) FROM processings":                               1,
	} {
		if n := query(t, crm, statement); n != want {
			t.Errorf("%s: %d, want %d", statement, n, want)
		}
	}
	// Each record makes two events in a history and each turn two more. A turn has at least one result.
	if n := query(t, hub, "SELECT max(n) FROM (SELECT count(*) n FROM history GROUP BY instance)"); n > 4*size+10 {
		t.Errorf("a history has %d events", n)
	}
	if n := query(t, hub, "SELECT count(*) FROM instances"); n < records/size {
		t.Errorf("%d instances", n)
	}
}
