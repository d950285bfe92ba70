package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/microsoft/durabletask-go/api"

	myorchestration "example.com/durablefunctions/MyOrchestration"
	"example.com/durablefunctions/handler/cli"
	"example.com/durablefunctions/handler/local"
)

// function is the name of the function that takes the messages.
const function = "MyClientFunction"

type processCommand struct {
	cli.DataFlag
	JSON   bool   `name:"json" help:"Print one JSON object instead of the summary."`
	Strict bool   `help:"Exit with code 3 if a record failed."`
	File   string `arg:"" complete:"file" help:"File with the message, or - for standard input."`
}

// report is what --json prints.
type report struct {
	InstanceID    *string                 `json:"instanceId"`    // null: nothing to process
	RuntimeStatus *string                 `json:"runtimeStatus"` // null: nothing to process
	Output        *myorchestration.Output `json:"output"`        // null: the orchestration did not complete
	Error         string                  `json:"error,omitempty"`
	Mails         []mailReport            `json:"mails"` // the mails that succeeded
	ElapsedMs     int64                   `json:"elapsedMs"`

	elapsed time.Duration
	failed  []local.Mail
}

type mailReport struct {
	To      string  `json:"to"`
	Subject string  `json:"subject"`
	Path    *string `json:"path"` // null: the mail was sent
}

func (c *processCommand) Run(e *cli.Environment) error {
	begun := time.Now()
	o := cli.RunOptions{DataFlag: c.DataFlag, File: c.File, Function: function}
	return e.Run(o, func(s *cli.Session, instances []local.Instance) (exitCode int, err error) {
		r, err := newReport(context.WithoutCancel(e.Context), s, instances, time.Since(begun))
		if err == nil {
			err = r.print(e.Stdout, c.JSON)
		}
		switch {
		case err != nil:
			return 0, err
		case r.Output == nil:
			return cli.ExitFailed, nil
		case r.Output.Failed > 0 && c.Strict:
			return cli.ExitStrict, nil
		}
		return 0, nil
	})
}

// newReport reports on the one orchestration that MyClientFunction starts. If there is none, there was nothing to process.
func newReport(ctx context.Context, s *cli.Session, instances []local.Instance, elapsed time.Duration) (*report, error) {
	r := &report{Mails: []mailReport{}, ElapsedMs: elapsed.Milliseconds(), elapsed: elapsed}
	if len(instances) == 0 {
		r.Output = &myorchestration.Output{Failures: []myorchestration.Failure{}, Mail: myorchestration.MailNone}
		return r, nil
	}
	instance := instances[0]
	status := local.StatusName(instance.Status)
	r.InstanceID, r.RuntimeStatus = &instance.ID, &status
	if instance.Status != api.RUNTIME_STATUS_COMPLETED {
		r.Error = local.Reason(instance)
		if r.Error == "" {
			r.Error = "the orchestration ended without a reason"
		}
	} else if err := json.Unmarshal([]byte(instance.Output), &r.Output); err != nil {
		return nil, fmt.Errorf("the result of instance %s is not MyOrchestration's: %w", instance.ID, err)
	}
	mails, err := s.Mails(ctx, instance.ID)
	if err != nil {
		return nil, err
	}
	for _, m := range mails {
		if m.Failed {
			r.failed = append(r.failed, m)
			continue
		}
		sent := mailReport{To: strings.Join(m.To, ", "), Subject: m.Subject}
		if m.Path != "" {
			sent.Path = &m.Path
		}
		r.Mails = append(r.Mails, sent)
	}
	return r, nil
}

// shown is how many failed records the summary lists.
const shown = 20

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(w, r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	if r.InstanceID == nil {
		row("Nothing to process", "the message names no records")
		return t.Flush()
	}
	row("Instance", "%s", *r.InstanceID)
	row("Status", "%s", *r.RuntimeStatus)
	if r.Output == nil {
		row("Error", "%s", cli.OneLine(r.Error))
	} else {
		row("Records", "%d in all, %d succeeded, %d failed", r.Output.Total, r.Output.Succeeded, r.Output.Failed)
		for i, f := range r.Output.Failures {
			if i == shown {
				row("", "… and %d more (--json lists them all)", len(r.Output.Failures)-shown)
				break
			}
			row("Failed", "%s", cli.OneLine(f.RecordId+": "+f.ErrorMessage))
		}
	}
	for _, m := range r.Mails {
		if m.Path != nil {
			row("Mail", "to %s written to %s (no SendGridKey is set)", cli.OneLine(m.To), nearby(*m.Path))
		} else {
			row("Mail", "sent to %s", cli.OneLine(m.To))
		}
	}
	for _, m := range r.failed {
		row("Mail failed", "%s; kept in %s", cli.OneLine(m.Reason), nearby(m.Path))
	}
	row("Elapsed", "%s", r.elapsed.Round(time.Millisecond))
	return t.Flush()
}

// nearby shortens a path that lies below the working directory.
func nearby(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}
