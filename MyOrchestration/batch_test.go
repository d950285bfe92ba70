package myorchestration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"

	processactivity "example.com/durablefunctions/ProcessActivity"
	"example.com/durablefunctions/handler/durable"
)

// ids makes n record ids, of which every tenth fails.
func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("good", i)
		if i%10 == 9 {
			list[i] = fmt.Sprint("bad", i)
		}
	}
	return list
}

// Whatever the batch size, each record is processed once, for the root's job, and the result, the progress and the mail
// are those of the whole.
func TestBatches(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 2, 3, 10, 99, 100, 101} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			env := newEnv(t)
			r, out := run(t, env, Input{RecordIds: ids(100), BatchSize: size, AlertEmailTo: "ops@example.com"})
			if out.Total != 100 || out.Succeeded != 90 || out.Failed != 10 || out.Mail != MailSent || len(r.Outputs["mail"]) != 1 {
				t.Errorf("%+v, %d mails", out, len(r.Outputs["mail"]))
			}
			for i, f := range out.Failures {
				if want := fmt.Sprint("bad", 10*i+9); f.RecordId != want || f.ErrorMessage != "<b>"+want+"</b>" {
					t.Errorf("failure %d is %+v", i, f)
				}
			}
			calls := env.Calls(string(processactivity.Name))
			slices.Sort(calls)
			if n := len(slices.Compact(calls)); n != 100 || len(calls) != 100 {
				t.Errorf("%d calls, %d different ones", len(calls), n)
			}
			if last := r.CustomStatus[len(r.CustomStatus)-1]; last != `{"Total":100,"Completed":100,"Failed":10}` {
				t.Errorf("custom status %s", last)
			}
			if !strings.Contains(r.Outputs["mail"][0], "100 records, 90 succeeded, 10 failed") {
				t.Errorf("mail %s", r.Outputs["mail"][0])
			}
		})
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ records, size, parts, largest int }{
		{3, 2, 2, 2}, {5, 2, 2, 4}, {101, 100, 2, 100}, {2000, 100, 20, 100}, {2001, 100, 11, 200}, {10_000, 100, 20, 500},
		{100_000, 100, 20, 5000}, {1_000_000, 100, 20, 50_000}, {100_000, 1000, 20, 5000}, {1000, 10, 10, 100},
	} {
		b := batch{Input: Input{RecordIds: ids(c.records), BatchSize: c.size, AlertEmailTo: "x", MailAttempts: 3}, JobId: "job", MaxOutputBytes: maxOutput}
		parts := b.split()
		var all []string
		largest := 0
		for _, p := range parts {
			all = append(all, p.RecordIds...)
			largest = max(largest, len(p.RecordIds))
			if p.JobId != "job" || p.BatchSize != c.size || p.AlertEmailTo != "" || p.MailAttempts != 0 || p.MaxOutputBytes < maxOutput*len(p.RecordIds)/c.records {
				t.Errorf("%d by %d: part %+v", c.records, c.size, p.Input)
			}
		}
		if len(parts) != c.parts || largest != c.largest || !slices.Equal(all, b.RecordIds) {
			t.Errorf("%d by %d: %d parts of up to %d, %d records", c.records, c.size, len(parts), largest, len(all))
		}
	}
}

// A part that is lost runs again, each on its own schedule; one that stays lost fails its records, and the rest go on.
func TestLostParts(t *testing.T) {
	t.Parallel()
	env := newEnv(t)
	env.Lose(string(Name), 3)
	r, out := run(t, env, Input{RecordIds: []string{"a", "b", "c", "d", "e"}, BatchSize: 3})
	if out.Succeeded != 5 || r.Elapsed != 15*time.Second {
		t.Errorf("%+v after %s", out, r.Elapsed)
	}

	env = newEnv(t)
	env.Lose(string(Name), 5) // both, both again, and the first a third time
	r, out = run(t, env, Input{RecordIds: []string{"a", "b", "c", "d", "e", "f"}, BatchSize: 3, AlertEmailTo: "ops@example.com"})
	if out.Succeeded+out.Failed != 6 || out.Failed != 3 || out.Mail != MailSent || !strings.Contains(out.Failures[0].ErrorMessage, "its batch failed") {
		t.Errorf("%+v after %s", out, r.Elapsed)
	}
	if last := r.CustomStatus[len(r.CustomStatus)-1]; last != `{"Total":6,"Completed":6,"Failed":3}` {
		t.Errorf("custom status %s", last)
	}
}

// Where many records fail the messages are cut, the same for all, and every id stands in the result.
func TestResultsFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ failures, limit, length int }{
		{10, 1 << 20, 500}, {10, 4000, 250}, {10, 700, 15}, {10, 480, 3}, {10, 100, 0}, {40_000, maxOutput, 250},
	} {
		out := &Output{Total: c.failures, Failed: c.failures}
		for i := range c.failures {
			out.Failures = append(out.Failures, Failure{fmt.Sprint("C-", i), strings.Repeat("x", 500)})
		}
		out.fit(c.limit)
		text, err := json.Marshal(out)
		if err != nil || c.length > 0 && len(text) > c.limit {
			t.Errorf("%+v: %d bytes, %v", c, len(text), err)
		}
		for i, f := range out.Failures {
			if f.RecordId != fmt.Sprint("C-", i) || len([]rune(f.ErrorMessage)) != c.length {
				t.Fatalf("%+v: %+v", c, f)
			}
		}
	}
}

func TestBadBatchSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, -1} {
		compressed, err := Input{RecordIds: []string{"a", "b"}, BatchSize: size}.Compress()
		if err != nil {
			t.Fatal(err)
		}
		r := newEnv(t).Run(durable.Orchestrator(Run), compressed)
		if r.Status != api.RUNTIME_STATUS_FAILED || !strings.Contains(r.Failure, "BatchSize") {
			t.Errorf("%d: %+v", size, r)
		}
	}
}

// In a large run no orchestration has more than a batch in its history.
func TestHistoriesAreBounded(t *testing.T) {
	t.Parallel()
	const size = 10
	env := newEnv(t)
	r, out := run(t, env, Input{RecordIds: ids(1234), BatchSize: size})
	if out.Total != 1234 || out.Failed != 123 {
		t.Errorf("%+v", out)
	}
	for id, n := range r.Scheduled {
		if n > size {
			t.Errorf("instance %s scheduled %d activities and children", id, n)
		}
	}
	if len(r.Scheduled) < 1234/size {
		t.Errorf("%d instances", len(r.Scheduled))
	}
}
