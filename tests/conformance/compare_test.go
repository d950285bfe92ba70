package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/durablefunctions/internal/testkit"
)

// envelope is the body of a good answer of a function.
type envelope struct {
	Outputs     map[string]json.RawMessage
	ReturnValue json.RawMessage
}

// compare returns the differences in meaning between an answer and the recorded one.
func compare(r record, a answer) []string {
	if a.Status != r.Status {
		return []string{fmt.Sprintf("status %d (%s), recorded is %d", a.Status, a.Phrase, r.Status)}
	}
	if r.Function == "" || a.Status/100 != 2 {
		return compareBare(r, a)
	}
	if a.ContentType != "application/json" {
		return []string{fmt.Sprintf("Content-Type %q: the host takes application/json only", a.ContentType)}
	}
	var got, want envelope
	if err := decodeObject(a.Body, &got); err != nil {
		return []string{fmt.Sprintf("the answer %s: %v", short(a.Body), err)}
	}
	if err := decodeObject(r.Response, &want); err != nil {
		return []string{fmt.Sprintf("the recorded answer %s: %v", short(r.Response), err)}
	}
	differences := compareFields("output ", outputs(got), outputs(want))
	switch r.Function {
	case "Orch":
		return append(differences, compareTurns(r, got.ReturnValue, want.ReturnValue)...)
	case "QueueStart":
		p, err := planOf(r)
		if err != nil {
			return append(differences, err.Error())
		}
		differences = append(differences, p.compareCalls(a.Calls)...)
	}
	return append(differences, compareFields("", result(unmark(string(got.ReturnValue))), result(string(want.ReturnValue)))...)
}

// compareBare compares answers that are not a function's good answer: failures, and the answer to the host's readiness probe.
func compareBare(r record, a answer) (differences []string) {
	if a.Body != r.Response {
		differences = append(differences, fmt.Sprintf("body %s, recorded is %s", short(a.Body), short(r.Response)))
	}
	if r.Function != "Fail" {
		return differences
	}
	var request struct{ Data map[string]json.RawMessage }
	var want string
	if json.Unmarshal([]byte(r.Request), &request) != nil || json.Unmarshal([]byte(testkit.Text(request.Data["input"])), &want) != nil {
		return append(differences, "the recorded input is not a string")
	}
	if got := decodePhrase(a.Phrase); got != want && !isCut(got, want) {
		differences = append(differences, fmt.Sprintf("the reason phrase says %s, want %s", short(got), short(want)))
	}
	return differences
}

func decodeObject(text string, e *envelope) error {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return fmt.Errorf("not a JSON object")
	}
	if _, err := canonical(text, nil); err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), e)
}

func outputs(e envelope) map[string]string {
	out := map[string]string{}
	for name, v := range e.Outputs {
		out[name] = jsonText(string(v), nil)
	}
	return out
}

// result returns the fields of a ReturnValue. null means the same as no value.
func result(value string) map[string]string {
	if value == "" {
		value = "null"
	}
	return map[string]string{"ReturnValue": jsonText(value, nil)}
}

// jsonText returns a JSON text in its canonical form. A text that is not JSON is returned with the mark "text: ".
func jsonText(s string, change func(string) string) string {
	c, err := canonical(s, change)
	if err != nil {
		return "text: " + s
	}
	return c
}

// marker is the start of a string with which the handler protects a JSON text that the host would alter.
const marker = "durable-json:"

func unmark(value string) string {
	var s string
	if json.Unmarshal([]byte(value), &s) != nil || !strings.HasPrefix(s, marker) || !json.Valid([]byte(s[len(marker):])) {
		return value
	}
	return s[len(marker):]
}

var (
	phraseMark   = regexp.MustCompile(`^durable/[a-z-]+: ?`)
	phraseEscape = regexp.MustCompile(`\\(\\|n|r|x[0-9a-f]{2})`)
)

// decodePhrase removes the handler's mark and its escapes from a reason phrase.
func decodePhrase(phrase string) string {
	mark := phraseMark.FindString(phrase)
	if mark == "" {
		return phrase
	}
	return phraseEscape.ReplaceAllStringFunc(phrase[len(mark):], func(e string) string {
		switch e[1] {
		case 'n':
			return "\n"
		case 'r':
			return "\r"
		case 'x':
			c, _ := strconv.ParseUint(e[2:], 16, 8) // the two digits are valid
			return string(rune(c))
		}
		return `\`
	})
}

const longPhrase = 30_000 // the handler cuts no phrase that has fewer bytes

// isCut says whether got is the beginning of want, as much as fits into a phrase, followed by a note that it was cut.
func isCut(got, want string) bool {
	begin, ok := strings.CutSuffix(got, fmt.Sprintf("… [cut: the message has %d bytes]", len(want)))
	return ok && len(begin) > longPhrase && strings.HasPrefix(want, begin)
}

// compareTurns compares two answers to an orchestrator's turn.
func compareTurns(r record, got, want json.RawMessage) []string {
	t, err := testkit.DecodeTurn(r.Request)
	if err != nil {
		return []string{err.Error()}
	}
	ours, err := testkit.DecodeResponse(got)
	if err != nil {
		return []string{fmt.Sprintf("the answer's ReturnValue: %v", err)}
	}
	recorded, err := testkit.DecodeResponse(want)
	if err != nil {
		return []string{fmt.Sprintf("the recorded ReturnValue: %v", err)}
	}
	if err := checkDecoded(r, recorded); err != nil {
		return []string{err.Error()}
	}
	differences := compareFields("", turnFields(ours, upToError), withoutSeams(t, turnFields(recorded, upToError)))
	return append(differences, compareFailures(t, turnFields(ours, nil), turnFields(recorded, nil))...)
}

// checkDecoded checks that a recording's decoded response is the same message as its response.
func checkDecoded(r record, recorded protoreflect.Message) error {
	if len(r.Decoded.Response) == 0 {
		return nil
	}
	again := recorded.New().Interface()
	if err := protojson.Unmarshal(r.Decoded.Response, again); err != nil {
		return fmt.Errorf("the recording's decoded response: %w", err)
	}
	if !proto.Equal(again, recorded.Interface()) {
		return fmt.Errorf("the recording's decoded response is not its response")
	}
	return nil
}

// jsonFields matches the paths of actions' fields that hold JSON texts.
var jsonFields = regexp.MustCompile(`^action \d+(#\d+)?: ([a-zA-Z]+\.(input|data)|completeOrchestration\.carryoverEvents\[\d+\]\.[a-zA-Z]+\.input)$`)

// turnFields returns the fields of an answer to a turn by their paths; the actions are named by their ids. change is applied to
// the strings of a result.
func turnFields(m protoreflect.Message, change func(string) string) map[string]string {
	out := map[string]string{}
	for path, v := range testkit.Fields(m) {
		if !strings.HasPrefix(path, "actions[") {
			out[path] = v
		}
	}
	actions := m.Get(m.Descriptor().Fields().ByName("actions")).List()
	for i := range actions.Len() {
		action := testkit.Fields(actions.Get(i).Message())
		prefix := fmt.Sprintf("action %s: ", cmp.Or(action["id"], "0"))
		for n := 2; has(out, prefix); n++ {
			prefix = fmt.Sprintf("action %s#%d: ", cmp.Or(action["id"], "0"), n)
		}
		delete(action, "id")
		for path, v := range action {
			if strings.HasSuffix(path, "failureDetails.stackTrace") {
				continue
			}
			path = prefix + path
			if strings.HasSuffix(path, ": scheduleTask.input") {
				v = unmark(v)
			}
			switch {
			case strings.HasSuffix(path, ": completeOrchestration.result"):
				v = jsonText(v, change)
			case jsonFields.MatchString(path):
				v = jsonText(v, nil)
			}
			out[path] = v
		}
	}
	if status, ok := out["customStatus"]; ok && status != "" {
		out["customStatus"] = jsonText(status, nil)
	}
	return out
}

func has(fields map[string]string, prefix string) bool {
	for path := range fields {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// upToError removes what follows the prefix of a string that reports an error: in the recording it is text that the host puts
// around errors. compareFailures compares what follows.
func upToError(s string) string {
	for _, prefix := range []string{"await: ", "ERROR "} {
		if strings.HasPrefix(s, prefix) {
			return prefix
		}
	}
	return s
}

func completions(fields map[string]string) (n int) {
	for path := range fields {
		if strings.HasSuffix(path, ": completeOrchestration") {
			n++
		}
	}
	return n
}

// withoutSeams changes a recorded answer where only durabletask-go v0.6.0 without our handler answers so: an empty custom status
// that nobody set, a custom status that is not JSON, and the second completion of a rewound orchestration.
func withoutSeams(t testkit.Turn, recorded map[string]string) map[string]string {
	if status, ok := recorded["customStatus"]; ok {
		if status == "" {
			delete(recorded, "customStatus")
		} else if plain, isText := strings.CutPrefix(status, "text: "); isText {
			quoted, _ := json.Marshal(plain)
			recorded["customStatus"] = jsonText(string(quoted), nil)
		}
	}
	if !slices.ContainsFunc(t.History(), func(e *backend.HistoryEvent) bool { return e.GetGenericEvent() != nil }) {
		return recorded
	}
	for path, v := range recorded {
		prefix, ok := strings.CutSuffix(path, "completeOrchestration.failureDetails.errorMessage")
		if ok && strings.HasPrefix(v, "don't know how to handle event: ") && completions(recorded) == 2 {
			for p := range recorded {
				if strings.HasPrefix(p, prefix) {
					delete(recorded, p)
				}
			}
			break
		}
	}
	return recorded
}

var statusPhrase = regexp.MustCompile(`(?s)^Response status code does not indicate success: \d+ \((.*)\)\.$`)

// compareFailures checks that an error that the orchestrator returns says more than the recorded one: a failure without details
// names the activity or the orchestrator, and any other failure has the function's own words.
func compareFailures(t testkit.Turn, ours, recorded map[string]string) (differences []string) {
	for path, v := range recorded {
		if !strings.HasSuffix(path, "completeOrchestration.result") || !strings.Contains(v, `"await: `) && !strings.Contains(v, `"ERROR `) {
			continue
		}
		for _, words := range ownWords(t) {
			quoted := strconv.Quote(words)
			if got := ours[path]; !strings.Contains(got, quoted[1:len(quoted)-1]) {
				differences = append(differences, fmt.Sprintf("%s is %s, which does not say %q", path, short(got), words))
			}
		}
	}
	return differences
}

// ownWords returns the texts that the errors of a turn's history must contain.
func ownWords(t testkit.Turn) (words []string) {
	names := map[int32]string{}
	for _, e := range t.History() {
		names[e.EventId] = cmp.Or(e.GetTaskScheduled().GetName(), e.GetSubOrchestrationInstanceCreated().GetName(), names[e.EventId])
		var details *backend.TaskFailureDetails
		var id int32
		switch {
		case e.GetTaskFailed() != nil:
			details, id = e.GetTaskFailed().FailureDetails, e.GetTaskFailed().TaskScheduledId
		case e.GetSubOrchestrationInstanceFailed() != nil:
			details, id = e.GetSubOrchestrationInstanceFailed().FailureDetails, e.GetSubOrchestrationInstanceFailed().TaskScheduledId
		default:
			continue
		}
		switch phrase := statusPhrase.FindStringSubmatch(details.GetInnerFailure().GetErrorMessage()); {
		case details == nil:
			words = append(words, names[id])
		case phrase != nil:
			words = append(words, decodePhrase(fromLatin1(phrase[1])))
		case e.GetSubOrchestrationInstanceFailed() != nil:
			words = append(words, details.ErrorMessage)
		}
	}
	return words
}

// fromLatin1 decodes as UTF-8 a text that the host decoded as Latin-1.
func fromLatin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}
