package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"example.com/durablefunctions/handler/internal/httpapi"
)

type instancesCommand struct {
	List      listInstances      `cmd:"" help:"List instances."`
	Show      showInstance       `cmd:"" help:"Show an instance: its state, its error, and a timeline of what it did."`
	History   instanceHistory    `cmd:"" help:"List the events of an instance."`
	Wait      waitInstance       `cmd:"" help:"Wait for an instance to end, and print its output. Exit code 1 if it did not complete, 5 after --timeout."`
	Terminate terminateInstances `cmd:"" help:"End instances at once."`
	Suspend   suspendInstances   `cmd:"" help:"Have instances do nothing until they are resumed."`
	Resume    resumeInstances    `cmd:"" help:"Let suspended instances go on."`
	Rewind    rewindInstances    `cmd:"" help:"Have failed instances try again what failed."`
	Raise     raiseEvent         `cmd:"" help:"Send an event to an instance."`
	Restart   restartInstance    `cmd:"" help:"Start an instance again, with its input."`
	Purge     purgeInstances     `cmd:"" help:"Delete finished instances and their histories: those named, or all that a filter chooses."`
}

// choice holds the flags that choose instances.
type choice struct {
	Status []string `placeholder:"STATUS" complete:"Pending,Running,Suspended,Completed,Failed,Terminated" help:"Only with these: Pending, Running, Suspended, Completed, Failed, Terminated."`
	From   string   `placeholder:"TIME" help:"Only created since: 2026-01-31, 2026-01-31T12:00:00Z, or 2h for the last two hours."`
	To     string   `placeholder:"TIME" help:"Only created until."`
}

var statusNames = []string{"Pending", "Running", "Suspended", "Completed", "Failed", "Terminated", "Canceled", "ContinuedAsNew"}

// filter turns the flags into a filter. Statuses may be in any case; the API knows only one spelling.
func (c choice) filter(now time.Time) (f httpapi.Filter, err error) {
	for _, s := range c.Status {
		n := slices.IndexFunc(statusNames, func(name string) bool { return strings.EqualFold(name, s) })
		if n < 0 {
			return f, fmt.Errorf("--status %s is none: one of %s", s, strings.Join(statusNames, ", "))
		}
		f.Status = append(f.Status, statusNames[n])
	}
	if f.From, err = parseTime(c.From, now); err != nil {
		return f, fmt.Errorf("--from %w", err)
	}
	if f.To, err = parseTime(c.To, now); err != nil {
		return f, fmt.Errorf("--to %w", err)
	}
	return f, nil
}

func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-01-31, 2026-01-31T12:00:00Z, or 2h for two hours ago", text)
}

// exitOf chooses the exit code for an error of the API.
func exitOf(err error) error {
	if httpapi.IsNotFound(err) {
		return exit{ExitNotFound, err}
	}
	return err
}

// watchInterval is the time between two queries of --watch.
const watchInterval = 2 * time.Second

// watch calls print again and again, at a terminal in the same place, until print reports that it is done or a signal comes.
func watch(e *Environment, again bool, print func(io.Writer) (done bool, err error)) error {
	if again {
		e.catchSignals()
	}
	terminal := isTerminal(e.Stdout)
	for {
		var text bytes.Buffer
		done, err := print(&text)
		if err != nil && e.Context.Err() != nil {
			return nil
		} else if err != nil {
			return exitOf(err)
		}
		if again && terminal {
			fmt.Fprint(e.Stdout, "\x1b[H\x1b[2J")
		}
		_, _ = e.Stdout.Write(text.Bytes())
		if done || !again {
			return nil
		}
		select {
		case <-e.Context.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

type listInstances struct {
	Remote
	choice
	Prefix string `placeholder:"ID" help:"Only those whose ids begin so."`
	Name   string `complete:"orchestrator" help:"Only those of this orchestrator function."`
	Top    int    `default:"100" help:"At most so many; 0 for all."`
	JSON   bool   `name:"json" help:"Print them as one JSON array."`
	Watch  bool   `help:"Look again every two seconds."`
}

func (c *listInstances) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return watch(e, c.Watch, func(w io.Writer) (bool, error) {
		f, err := c.filter(time.Now())
		if err != nil {
			return false, err
		}
		f.Prefix = c.Prefix
		list, more, err := listAll(e.Context, client, f, c.Name, c.Top)
		if err != nil {
			return false, err
		}
		if c.JSON {
			return false, PrintJSON(w, list)
		}
		return false, printInstances(w, list, more)
	})
}

// listAll returns the first top instances, or all for 0, and whether there are more. An empty name matches all names; the API
// cannot filter by name, so it is done here.
func listAll(ctx context.Context, client *httpapi.Client, f httpapi.Filter, name string, top int) (list []httpapi.Instance, more bool, err error) {
	list = []httpapi.Instance{}
	for {
		f.Size = 500
		if top > 0 && name == "" {
			f.Size = min(f.Size, top-len(list))
		}
		page, err := client.List(ctx, f)
		if err != nil {
			return nil, false, err
		}
		for n, i := range page.Instances {
			if top > 0 && len(list) == top {
				return list, page.Next != "" || n < len(page.Instances), nil
			}
			if name == "" || strings.EqualFold(i.Name, name) {
				list = append(list, i)
			}
		}
		if page.Next == "" || top > 0 && len(list) == top {
			return list, page.Next != "", nil
		}
		f.Token = page.Next
	}
}

func printInstances(w io.Writer, list []httpapi.Instance, more bool) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No instances.")
		return err
	}
	slices.SortStableFunc(list, func(a, b httpapi.Instance) int { return b.Created.Compare(a.Created) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tSTATUS\tCREATED\tUPDATED\tCUSTOM STATUS")
	totals := map[string]int{}
	for _, i := range list {
		totals[i.Status]++
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", OneLine(i.ID), OneLine(i.Name), i.Status, localTime(i.Created), localTime(i.Updated), value(i.CustomStatus, 60))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var parts []string
	for _, s := range statusNames {
		if totals[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", totals[s], strings.ToLower(s)))
		}
	}
	ending := ""
	if more {
		ending = "; there are more: --top 0 lists all"
	}
	_, err := fmt.Fprintf(w, "%s%s\n", strings.Join(parts, ", "), ending)
	return err
}

func localTime(t time.Time) string { return t.Local().Format(time.DateTime) }

// value returns the beginning of a JSON value, or nothing for null.
func value(v json.RawMessage, n int) string {
	text := string(bytes.TrimSpace(v))
	if text == "null" || text == `""` {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		text = s
	}
	return Beginning(text, n)
}

type showInstance struct {
	Remote
	ID    string `arg:"" complete:"instance" help:"Instance id."`
	JSON  bool   `name:"json" help:"Print it with its history as one JSON object."`
	Watch bool   `help:"Look again every two seconds until it has ended."`
}

func (c *showInstance) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return watch(e, c.Watch, func(w io.Writer) (bool, error) {
		i, err := client.Get(e.Context, c.ID, httpapi.WithHistory)
		if err != nil {
			return false, err
		}
		if c.JSON {
			return i.IsFinished(), PrintJSON(w, i)
		}
		return i.IsFinished(), printInstance(w, i, time.Now())
	})
}

// maxValue is how many characters of an input or an output are shown.
const maxValue = 2000

func printInstance(w io.Writer, i httpapi.Instance, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, text string) {
		if text != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, text)
		}
	}
	end, took := now, "Running for"
	if i.IsFinished() {
		end, took = i.Updated, "Took"
	}
	row("Instance", OneLine(i.ID))
	row("Status", i.Status)
	if i.Status == "Failed" || i.Status == "Terminated" {
		row("Reason", value(i.Output, maxValue))
	}
	row("Name", OneLine(i.Name))
	row("Parent", OneLine(i.Parent))
	row("Created", localTime(i.Created))
	row(took, short(end.Sub(i.Created).Truncate(time.Second)))
	row("Custom status", value(i.CustomStatus, maxValue))
	row("Input", value(i.Input, maxValue))
	if i.Status != "Failed" && i.Status != "Terminated" {
		row("Output", value(i.Output, maxValue))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	printTimeline(w, i, now)
	return nil
}

type instanceHistory struct {
	Remote
	ID   string `arg:"" complete:"instance" help:"Instance id."`
	JSON bool   `name:"json" help:"Print the events as one JSON array, as the app tells them."`

	Watch bool `help:"Look again every two seconds until it has ended."`
}

func (c *instanceHistory) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return watch(e, c.Watch, func(w io.Writer) (ended bool, err error) {
		text, err := client.GetJSON(e.Context, c.ID, httpapi.WithHistory)
		if err != nil {
			return false, err
		}
		var i struct {
			RuntimeStatus string
			HistoryEvents []json.RawMessage
		}
		if err := json.Unmarshal(text, &i); err != nil {
			return false, err
		}
		ended = httpapi.Instance{Status: i.RuntimeStatus}.IsFinished()
		if c.JSON {
			return ended, PrintJSON(w, append([]json.RawMessage{}, i.HistoryEvents...))
		}
		return ended, printEvents(w, i.HistoryEvents)
	})
}

func printEvents(w io.Writer, events []json.RawMessage) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tEVENT\tNAME\tDETAIL")
	for _, raw := range events {
		var event httpapi.Event
		if err := json.Unmarshal(raw, &event); err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", event.Timestamp.Local().Format("2006-01-02 15:04:05.000"), OneLine(event.Type), OneLine(event.Name+event.FunctionName), eventDetail(event))
	}
	return t.Flush()
}

func eventDetail(e httpapi.Event) string {
	switch {
	case e.FailureDetails != nil || strings.HasSuffix(e.Type, "Failed"):
		return "failed: " + Beginning(failureText(e), 120)
	case e.FireAt != nil:
		return "until " + localTime(*e.FireAt)
	case len(e.Result) > 0:
		return strings.TrimSpace(OneLine(e.Status) + " " + value(e.Result, 120))
	case len(e.Input) > 0:
		return value(e.Input, 120)
	}
	return Beginning(e.Status+e.Reason+e.InstanceID, 120)
}

type waitInstance struct {
	Remote
	ID      string        `arg:"" complete:"instance" help:"Instance id."`
	Timeout time.Duration `help:"Give up after this, such as 5m. Default: never."`
	JSON    bool          `name:"json" help:"Print the instance as one JSON object."`
}

func (c *waitInstance) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	e.catchSignals()
	ctx := e.Context
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	return awaitInstance(ctx, e, client, c.ID, c.JSON)
}

// awaitInstance queries the instance at growing intervals until it has ended, and prints its output.
func awaitInstance(ctx context.Context, e *Environment, client *httpapi.Client, id string, asJSON bool) error {
	for pause := 200 * time.Millisecond; ; pause = min(pause*3/2, 5*time.Second) {
		i, err := client.Get(ctx, id, httpapi.WithoutHistory)
		switch {
		case ctx.Err() != nil:
			return exit{ExitTimeout, fmt.Errorf("%s has not ended yet", id)}
		case err != nil:
			return exitOf(err)
		case i.IsFinished():
			return printEnd(e.Stdout, i, asJSON)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func printEnd(w io.Writer, i httpapi.Instance, asJSON bool) error {
	var err error
	switch {
	case asJSON:
		err = PrintJSON(w, i)
	case i.Status == "Completed":
		err = PrintJSON(w, i.Output)
	}
	if err == nil && i.Status != "Completed" {
		return exit{ExitFailed, fmt.Errorf("%s is %s: %s", i.ID, i.Status, value(i.Output, maxValue))}
	}
	return err
}

// steerInstances holds the arguments of an operation that takes ids and a reason.
type steerInstances struct {
	Remote
	ID     []string `arg:"" complete:"instance" help:"Instance ids."`
	Reason string   `help:"Why; it is kept with the instance."`
	JSON   bool     `name:"json" help:"Print one JSON array instead of lines."`
}

// done says for each operation what was done. The app carries it out a moment later, hence "told to".
var done = map[httpapi.Operation]string{httpapi.Terminate: "told to end", httpapi.Suspend: "told to pause", httpapi.Resume: "told to go on", httpapi.Rewind: "told to try again"}

type (
	terminateInstances struct{ steerInstances }
	suspendInstances   struct{ steerInstances }
	resumeInstances    struct{ steerInstances }
	rewindInstances    struct{ steerInstances }
)

func (c *terminateInstances) Run(e *Environment) error { return c.do(e, httpapi.Terminate) }
func (c *suspendInstances) Run(e *Environment) error   { return c.do(e, httpapi.Suspend) }
func (c *resumeInstances) Run(e *Environment) error    { return c.do(e, httpapi.Resume) }
func (c *rewindInstances) Run(e *Environment) error    { return c.do(e, httpapi.Rewind) }

func (c *steerInstances) do(e *Environment, op httpapi.Operation) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return forEach(e, c.JSON, c.ID, func(id string) (string, error) { return done[op], client.Do(e.Context, op, id, c.Reason) })
}

// steered is what --json prints for an instance.
type steered struct {
	InstanceID string `json:"instanceId"`
	Result     string `json:"result,omitempty"`
	Error      string `json:"error,omitempty"`
}

// forEach applies an operation to each instance and prints one line for each, or one JSON array. It goes on after an error,
// and returns the first one at the end.
func forEach(e *Environment, asJSON bool, ids []string, do func(id string) (string, error)) (first error) {
	list := []steered{}
	if asJSON {
		defer func() { first = cmp.Or(first, PrintJSON(e.Stdout, list)) }()
	}
	for _, id := range ids {
		what, err := do(id)
		if err != nil {
			list = append(list, steered{InstanceID: id, Error: err.Error()})
		} else {
			list = append(list, steered{InstanceID: id, Result: what})
		}
		switch {
		case err == nil && asJSON:
		case err == nil:
			fmt.Fprintf(e.Stdout, "%s: %s\n", OneLine(id), what)
		case first == nil:
			first = exitOf(err)
		default:
			fmt.Fprintf(e.Stderr, "%s\n", OneLine(err.Error()))
		}
	}
	return first
}

type raiseEvent struct {
	Remote
	ID    string `arg:"" complete:"instance" help:"Instance id."`
	Event string `arg:"" help:"Name of the event."`
	Input string `default:"null" help:"Its data: JSON, @FILE, or - for what is piped in."`
	JSON  bool   `name:"json" help:"Print one JSON array instead of a line."`
}

func (c *raiseEvent) Run(e *Environment) error {
	data, err := jsonArgument("--input", c.Input)
	if err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return forEach(e, c.JSON, []string{c.ID}, func(id string) (string, error) {
		return "event " + OneLine(c.Event) + " sent", client.Raise(e.Context, id, c.Event, data)
	})
}

// jsonArgument reads JSON from a flag, from the file that the flag names, or from stdin.
func jsonArgument(flag, text string) (data []byte, err error) {
	switch name, isFile := strings.CutPrefix(text, "@"); {
	case text == "-":
		data, err = io.ReadAll(os.Stdin)
	case isFile:
		data, err = os.ReadFile(name)
	default:
		data = []byte(text)
	}
	if err != nil {
		return nil, err
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("%s is not JSON: %s; a text needs its quotes, as in '\"text\"'", flag, Beginning(string(data), 60))
	}
	return data, nil
}

type restartInstance struct {
	Remote
	ID     string `arg:"" complete:"instance" help:"Instance id."`
	SameID bool   `help:"In its own place, if it has ended. Default: beside it, as a new instance."`
	JSON   bool   `name:"json" help:"Print a JSON object with the new id."`
}

func (c *restartInstance) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	id, err := client.Restart(e.Context, c.ID, !c.SameID)
	if err != nil {
		if strings.Contains(err.Error(), "No instance with ID") {
			return exit{ExitNotFound, err}
		}
		return exitOf(err)
	}
	return printID(e.Stdout, id, c.JSON)
}

func printID(w io.Writer, id string, asJSON bool) error {
	if asJSON {
		return PrintJSON(w, struct {
			InstanceID string `json:"instanceId"`
		}{id})
	}
	_, err := fmt.Fprintln(w, OneLine(id))
	return err
}

type purgeInstances struct {
	Remote
	choice
	ID   []string `arg:"" optional:"" complete:"instance" help:"Instance ids. Without one, a filter with --from."`
	JSON bool     `name:"json" help:"Print JSON: an array of the instances, or how many a filter chose."`
}

func (c *purgeInstances) Run(e *Environment) error {
	f, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	if byFilter := !f.From.IsZero() || !f.To.IsZero() || len(f.Status) > 0; byFilter == (len(c.ID) > 0) || byFilter && f.From.IsZero() {
		return errors.New("purge needs either instance ids, or a filter with --from: nothing was deleted")
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	if len(c.ID) > 0 {
		return forEach(e, c.JSON, c.ID, func(id string) (string, error) { return "purged", client.Purge(e.Context, id) })
	}
	n, err := client.PurgeAll(e.Context, f)
	if err != nil {
		return err
	}
	if c.JSON {
		return PrintJSON(e.Stdout, map[string]int{"purged": n})
	}
	_, err = fmt.Fprintf(e.Stdout, "purged: %d\n", n)
	return err
}

type startNewCommand struct {
	Remote
	Orchestrator string `arg:"" complete:"orchestrator" help:"Name of the orchestrator function."`
	ID           string `name:"id" help:"Id of the new instance. Default: the app makes one."`
	Input        string `help:"Its input: JSON, @FILE, or - for what is piped in."`
	Wait         bool   `help:"Wait for its end, as instances wait does."`
	JSON         bool   `name:"json" help:"Print a JSON object: with its id, or with --wait the instance."`
}

func (c *startNewCommand) Run(e *Environment) error {
	var input []byte
	var err error
	if c.Input != "" {
		if input, err = jsonArgument("--input", c.Input); err != nil {
			return err
		}
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	id, err := client.Start(e.Context, c.Orchestrator, c.ID, input)
	if err != nil {
		return err
	}
	if c.Wait {
		fmt.Fprintf(e.Stderr, "%s started\n", OneLine(id))
		e.catchSignals()
		return awaitInstance(e.Context, e, client, id, c.JSON)
	}
	return printID(e.Stdout, id, c.JSON)
}
