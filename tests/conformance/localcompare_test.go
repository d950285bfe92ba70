package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestLocalComparison changes one thing at a time in what TestLocalHost compares: each change must be found.
func TestLocalComparison(t *testing.T) {
	t.Parallel()
	conversation := readConversation(t, "conversations")
	trigger := conversation[slices.IndexFunc(conversation, func(r record) bool { return strings.Contains(r.Request, "c-forge") })]
	trigger.Headers = maps.Clone(trigger.Headers)
	trigger.Headers["Transfer-Encoding"] = []string{"chunked"}
	if d := compareTriggers(trigger, trigger); len(d) > 0 {
		t.Fatalf("unchanged, it differs: %q", d)
	}
	for name, change := range map[string]func(*record){
		"message":        func(r *record) { r.Request = strings.Replace(r.Request, `c-forge`, `c-forgd`, 1) },
		"escape":         func(r *record) { r.Request = strings.Replace(r.Request, `+02:00`, `\u002b02:00`, 1) },
		"client binding": func(r *record) { r.Request = strings.Replace(r.Request, `creationUrls`, `CreationUrls`, 1) },
		"forged scalar":  func(r *record) { r.Request = strings.Replace(r.Request, `"sys":"\"True\""`, `"sys":"True"`, 1) },
		"forged object":  func(r *record) { r.Request = strings.Replace(r.Request, `"input":{"mode"`, `"input":{"Mode"`, 1) },
		"no copy":        func(r *record) { r.Request = strings.Replace(r.Request, `"when":"\"11`, `"then":"\"11`, 1) },
		"Id":             func(r *record) { r.Request = strings.Replace(r.Request, `"Id":"\"evil\""`, `"Id":"\"c-forge\""`, 1) },
		"header":         func(r *record) { r.Headers["User-Agent"] = nil },
		"length":         func(r *record) { delete(r.Headers, "Transfer-Encoding") },
	} {
		changed := trigger
		changed.Headers = maps.Clone(trigger.Headers)
		change(&changed)
		if len(compareTriggers(changed, trigger)) == 0 {
			t.Errorf("%s: the change was not found", name)
		}
	}

	run := executions(t, conversation, nil)["c-sub"][0]
	if d := run.compare(run, "c-sub", "c-sub"); len(d) > 0 {
		t.Fatalf("unchanged, it differs: %q", d)
	}
	for name, change := range map[string]func(*execution){
		"first turn":    func(e *execution) { e.first = append(e.first, "orchestratorCompleted") },
		"event":         func(e *execution) { e.events[1] = strings.Replace(e.events[1], "c-sub:child", "c-sub:c", 1) },
		"event's order": func(e *execution) { slices.Reverse(e.events) },
		"event gone":    func(e *execution) { e.events = e.events[1:] },
		"shape":         func(e *execution) { e.shapes[0] += " " },
		"answer":        func(e *execution) { e.answer[e.completion()+".result"] = `"child 3"` },
	} {
		changed := execution{first: slices.Clone(run.first), events: slices.Clone(run.events), shapes: slices.Clone(run.shapes), answer: maps.Clone(run.answer)}
		change(&changed)
		if len(changed.compare(run, "c-sub", "c-sub")) == 0 {
			t.Errorf("%s: the change was not found", name)
		}
	}
	if a, b := shape(`{"context":"\"AA==\""}`), shape(`{"context":"\"A\u003d==\""}`); a == b {
		t.Error("a turn in another encoding has the same shape")
	}
}
