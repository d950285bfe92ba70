package handler

import (
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/backend"
)

// tooLargeType is the failure type of an orchestration that sends a value which is too large for its receiver.
const tooLargeType = "PayloadTooLarge"

// maxPayload is the largest value, in bytes, that a turn can carry beside the rest of its history. Base64 makes it a third larger.
func (s *server) maxPayload() int { return int(s.settings.maxBody / 2) }

// checkResult refuses an activity's result that is too large. Once in the history, it would make every later turn too large, and
// the orchestration would fail without a reason that anybody can see.
func (s *server) checkResult(value []byte) error {
	if len(value) <= s.maxPayload() {
		return nil
	}
	return fmt.Errorf("the activity's result has %d bytes, and its orchestrator can receive %d at most (setting HANDLER_MAX_BODY_BYTES): "+
		"store it elsewhere and return where it is", len(value), s.maxPayload())
}

// checkActions does the same for what an orchestrator sends.
func (s *server) checkActions(results *backend.ExecutionResults) error {
	for _, a := range results.Response.Actions {
		what, value := "the result", a.GetCompleteOrchestration().GetResult().GetValue()
		size := len(value)
		switch {
		case a.GetCompleteOrchestration().GetFailureDetails() != nil:
			value = a.GetCompleteOrchestration().GetFailureDetails().ErrorMessage
			what, size = "the error", len(value)
		case a.GetScheduleTask() != nil:
			value = a.GetScheduleTask().GetInput().GetValue()
			what, size = fmt.Sprintf("the input of activity %q", a.GetScheduleTask().Name), requestSize(value)/2
		case a.GetCreateSubOrchestration() != nil:
			value = a.GetCreateSubOrchestration().GetInput().GetValue()
			what, size = fmt.Sprintf("the input of sub-orchestration %q", a.GetCreateSubOrchestration().Name), len(value)
		case a.GetSendEvent() != nil:
			value = a.GetSendEvent().GetData().GetValue()
			what, size = fmt.Sprintf("the data of event %q", a.GetSendEvent().Name), len(value)
		}
		if size > s.maxPayload() {
			return fmt.Errorf("%s has %d bytes, more than its receiver can take (setting HANDLER_MAX_BODY_BYTES): "+
				"store it elsewhere and send where it is", what, len(value))
		}
	}
	return nil
}

// requestSize is about how large a request the host makes of an activity's input: it sends it three to four times, as a
// string inside a string, where a quote or a backslash has four bytes.
func requestSize(input string) int {
	return 4*len(input) + 9*(strings.Count(input, `"`)+strings.Count(input, `\`))
}
