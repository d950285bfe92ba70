package processactivity

import (
	"context"
	"errors"
	"strings"
	"testing"
)

type processor func(jobID, recordID string) error

func (p processor) Process(_ context.Context, jobID, recordID string) error {
	return p(jobID, recordID)
}

func TestRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   Input
		p    processor
		want string // of the error message; empty: success
	}{
		"success": {in: Input{"r", "j"}, p: func(job, id string) error {
			if job != "j" || id != "r" {
				t.Errorf("job %q, record %q", job, id)
			}
			return nil
		}},
		"error":     {in: Input{"r", "j"}, p: func(string, string) error { return errors.New("declined") }, want: "declined"},
		"panic":     {in: Input{"r", "j"}, p: func(string, string) error { panic("boom") }, want: "panic: boom"},
		"no job":    {in: Input{RecordId: "r"}, want: "JobId"},
		"no record": {in: Input{JobId: "j"}, want: "RecordId"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(c.p)(t.Context(), c.in)
			if err != nil || r.Success != (c.want == "") || !strings.Contains(r.ErrorMessage, c.want) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
