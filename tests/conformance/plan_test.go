package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/durablefunctions/internal/testkit"
)

// plan is the call that a message asks QueueStart to make to the durable client, and the host's answer to it, both taken from a
// record.
type plan struct {
	method string // empty: no call is made
	id     string // empty: any id
	want   map[string]string
	hub    string

	reply string // protobuf JSON
	err   error
}

// command is a message to QueueStart, in the format of the lab app, which has a type of its own for it.
type command struct {
	ID, Orchestrator, Event                  string
	Input                                    json.RawMessage
	Terminate, Suspend, Resume, Purge, Query string
}

// planOf reads the message and the note. It returns an error if they do not fit together.
func planOf(r record) (plan, error) {
	var request struct{ Data map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(r.Request), &request); err != nil {
		return plan{}, fmt.Errorf("the recorded request is not an invocation: %w", err)
	}
	var starter struct{ TaskHubName string }
	if err := json.Unmarshal([]byte(testkit.Text(request.Data["starter"])), &starter); err != nil {
		return plan{}, fmt.Errorf("the recorded durable client is not JSON: %w", err)
	}
	seen, failure, ok := strings.Cut(r.Note, " err=")
	if strings.HasSuffix(r.Note, " err=<nil>") { // the result of a query may hold the same words
		seen, failure, ok = strings.TrimSuffix(r.Note, " err=<nil>"), "<nil>", true
	}
	if !ok {
		return plan{}, fmt.Errorf("the note %q does not say how the call ended", r.Note)
	}
	message := testkit.Text(request.Data["item"])
	var c command
	if json.Unmarshal([]byte(message), &c) != nil || c.incomplete() {
		if seen != "not a command: "+message || failure != "<nil>" {
			return plan{}, fmt.Errorf("the message is not a command, but the note says %q", r.Note)
		}
		return plan{}, nil
	}
	p, err := c.plan(seen)
	if err != nil {
		return plan{}, err
	}
	p.hub = starter.TaskHubName
	if p.method == "StartInstance" && (seen == "") != (failure != "<nil>") {
		return plan{}, fmt.Errorf("the note %q has an id beside an error, or neither", r.Note)
	}
	return p, p.answer(failure)
}

// incomplete says whether the message is an object that is not a command.
func (c command) incomplete() bool {
	return c.Input == nil && c.Terminate+c.Suspend+c.Resume+c.Purge+c.Query == ""
}

// plan returns the call that the command asks for. seen is what the recorded app noted about the result.
func (c command) plan(seen string) (plan, error) {
	p := plan{reply: `{}`, want: map[string]string{}}
	said := seen
	switch {
	case c.Terminate != "":
		p.method, p.id, said = "TerminateInstance", c.Terminate, "terminated"
		p.want["output"], p.want["recursive"] = `"why"`, "true"
	case c.Suspend != "":
		p.method, p.id, said = "SuspendInstance", c.Suspend, "suspended"
		p.want["reason"] = "why"
	case c.Resume != "":
		p.method, p.id, said = "ResumeInstance", c.Resume, "resumed"
		p.want["reason"] = "why"
	case c.Purge != "":
		p.method, p.id, said = "PurgeInstances", c.Purge, "purged"
		p.reply = `{"deletedInstanceCount":1}`
	case c.Query != "":
		p.method, p.id = "GetInstance", c.Query
		p.want["getInputsAndOutputs"] = "true"
		if seen != "<nil>" {
			var err error
			if p.reply, err = stateOf(c.Query, seen); err != nil {
				return p, err
			}
		}
	case c.Event != "":
		p.method, p.id, said = "RaiseEvent", c.ID, "raised"
		p.want["name"], p.want["input"] = c.Event, string(c.Input)
	default:
		if c.Orchestrator == "" {
			c.Orchestrator = "Orch"
		}
		p.method, p.id = "StartInstance", c.ID
		p.want["name"], p.want["input"] = c.Orchestrator, string(c.Input)
		if c.ID != "" && seen != "" {
			said = c.ID
		}
		reply, _ := json.Marshal(map[string]string{"instanceId": seen})
		p.reply = string(reply)
	}
	if said != seen {
		return p, fmt.Errorf("the message asks for %s %s, but the note says %q", p.method, p.id, seen)
	}
	anyID := p.method == "StartInstance" && p.id == ""
	if !anyID && !validID(p.id) {
		return plan{}, nil // the client must refuse this id, because the host would accept it and then stall
	}
	if !anyID {
		p.want["instanceId"] = p.id
	}
	return p, nil
}

// failed is the beginning of each call's error in a note.
var failed = map[string]string{
	"StartInstance":     "failed to start orchestrator: ",
	"RaiseEvent":        "failed to raise event: ",
	"TerminateInstance": "failed to terminate instance: ",
	"SuspendInstance":   "failed to suspend orchestration: ",
	"ResumeInstance":    "failed to resume orchestration: ",
	"PurgeInstances":    "failed to purge orchestration state: ",
	"GetInstance":       "failed to fetch orchestration metadata: ",
}

var rpcError = regexp.MustCompile(`(?s)^rpc error: code = (\w+) desc = (.*)$`)

// answer makes the call fail as the note says.
func (p *plan) answer(failure string) error {
	switch {
	case p.method == "", failure == "<nil>":
		return nil
	case failure == "no such instance exists" && (p.method == "PurgeInstances" || p.method == "GetInstance"):
		p.reply = `{}`
		return nil
	}
	e := rpcError.FindStringSubmatch(strings.TrimPrefix(failure, failed[p.method]))
	if e == nil || !strings.HasPrefix(failure, failed[p.method]) {
		return fmt.Errorf("the note's error %q is none of %s", failure, p.method)
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if code.String() == e[1] {
			p.err = status.Error(code, e[2])
			return nil
		}
	}
	return fmt.Errorf("the note's error has the unknown code %q", e[1])
}

var state = regexp.MustCompile(`(?s)^&\{InstanceID:(.*) Name:(.*) RuntimeStatus:(\w+) CreatedAt:(.*) LastUpdatedAt:(.*)` +
	` SerializedInput:(.*) SerializedOutput:(.*) SerializedCustomStatus:(.*) FailureDetails:<nil>\}$`)

// stateOf makes the answer to a query from the state that the note shows.
func stateOf(id, seen string) (string, error) {
	m := state.FindStringSubmatch(seen)
	if m == nil || m[1] != id {
		return "", fmt.Errorf("the note shows no state of %s: %q", id, seen)
	}
	created, err1 := time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", m[4])
	updated, err2 := time.Parse("2006-01-02 15:04:05.999999999 -0700 MST", m[5])
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("the note's times: %w", err)
	}
	reply, err := json.Marshal(map[string]any{"exists": true, "orchestrationState": map[string]any{
		"instanceId": m[1], "name": m[2], "orchestrationStatus": m[3], "createdTimestamp": created, "lastUpdatedTimestamp": updated,
		"input": m[6], "output": m[7], "customStatus": m[8],
	}})
	return string(reply), err
}

// validID says whether a client may send this id. The host does not check it.
func validID(id string) bool {
	n := utf8.RuneCountInString(id)
	return n >= 1 && n <= 100 && !strings.ContainsAny(id, `/\#?`) && !strings.HasPrefix(id, "@") && !strings.ContainsFunc(id, unicode.IsControl)
}

// compareCalls returns the differences between the calls and the plan.
func (p plan) compareCalls(calls []testkit.Call) []string {
	if p.method == "" {
		if len(calls) > 0 {
			return []string{fmt.Sprintf("the client calls %s, the message asks for nothing", calls[0].Method)}
		}
		return nil
	}
	if len(calls) == 0 {
		return []string{fmt.Sprintf("no call, the message asks for %s of %s", p.method, p.id)}
	}
	differences := p.compareCall(calls[0])
	for _, more := range calls[1:] {
		// The host answers only "Unknown" to a suspend or a resume that is impossible, so a client may then ask for the state.
		if status.Code(p.err) != codes.Unknown || more.Method != "GetInstance" || more.Fields["instanceId"] != p.id {
			differences = append(differences, fmt.Sprintf("a call too many: %s %v", more.Method, more.Fields))
		}
	}
	return differences
}

func (p plan) compareCall(c testkit.Call) (differences []string) {
	if c.Method != p.method {
		return []string{fmt.Sprintf("the client calls %s, want %s", c.Method, p.method)}
	}
	if c.Hub() != p.hub {
		differences = append(differences, fmt.Sprintf("the call's task hub is %q, want %q", c.Hub(), p.hub))
	}
	got := map[string]string{}
	for name, v := range c.Fields {
		got[name] = v
	}
	if p.id == "" {
		if !validID(got["instanceId"]) {
			differences = append(differences, fmt.Sprintf("%s has the id %q, want a random one", p.method, got["instanceId"]))
		}
		delete(got, "instanceId")
	}
	return append(differences, compareFields(p.method+" ", asJSON(got), asJSON(p.want))...)
}

// asJSON makes the JSON texts in a request canonical.
func asJSON(fields map[string]string) map[string]string {
	out := map[string]string{}
	for name, v := range fields {
		if name == "input" || name == "output" {
			v = jsonText(v, nil)
		}
		out[name] = v
	}
	return out
}
