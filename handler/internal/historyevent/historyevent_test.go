package historyevent

import (
	"maps"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/protobuf/proto"
)

// TestTags: tags are in a field that durabletask-go does not know, and survive when it encodes an event.
func TestTags(t *testing.T) {
	t.Parallel()
	e := New("executionStarted", time.Now())
	if Tags(e) != nil {
		t.Errorf("a new start has %v", Tags(e))
	}
	for _, want := range []map[string]string{{"a": "b", "": "x"}, {"c": ""}} {
		SetTags(e, want)
		raw, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		again := New("executionStarted", time.Time{})
		if err := proto.Unmarshal(raw, again); err != nil || !maps.Equal(Tags(again), want) {
			t.Errorf("%v becomes %v, %v", want, Tags(again), err)
		}
	}
	for _, damaged := range []string{"\x4a", "\x4a\x05ab", "\x4a\x02\x0a\x09"} {
		TagsIn([]byte(damaged), startTags)
	}
}

func TestStatusName(t *testing.T) {
	t.Parallel()
	for status, want := range map[api.OrchestrationStatus]string{
		api.RUNTIME_STATUS_RUNNING: "Running", api.RUNTIME_STATUS_COMPLETED: "Completed", api.RUNTIME_STATUS_CONTINUED_AS_NEW: "ContinuedAsNew",
		api.RUNTIME_STATUS_FAILED: "Failed", api.RUNTIME_STATUS_CANCELED: "Canceled", api.RUNTIME_STATUS_TERMINATED: "Terminated",
		api.RUNTIME_STATUS_PENDING: "Pending", api.RUNTIME_STATUS_SUSPENDED: "Suspended",
	} {
		if got := StatusName(status); got != want {
			t.Errorf("%s is %s", want, got)
		}
	}
}
