package historyevent

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
)

// SpanID returns the id of the span that stands for the execution that start begins. It is the same for everybody who has the
// history. A rewound execution is another span.
func SpanID(start *backend.HistoryEvent, lists ...[]*backend.HistoryEvent) (id [8]byte) {
	rewound := 0
	for _, events := range lists {
		for _, e := range events {
			if e.GetGenericEvent() != nil {
				rewound++
			}
		}
	}
	name := Execution(start)
	if name == "" {
		name = fmt.Sprintf("%s@%d", start.GetExecutionStarted().GetOrchestrationInstance().GetInstanceId(), start.GetTimestamp().AsTime().UnixNano())
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s#%d", name, rewound))
	copy(id[:], sum[:])
	return id
}

// JoinTrace makes an executionStarted a part of the trace that it names, or of a new one. As on the real host with tracing, the
// sampled flag is always off.
func JoinTrace(start *backend.HistoryEvent) {
	es := start.GetExecutionStarted()
	m := es.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName("parentTraceContext"))
	c := es.GetParentTraceContext()
	c.TraceParent = unsampled(c.GetTraceParent())
}

// unsampled returns a traceparent with its flag off, or a new traceparent if the text is not one.
func unsampled(traceparent string) string {
	if parts := strings.Split(traceparent, "-"); len(parts) == 4 && len(parts[1]) == 32 && len(parts[2]) == 16 {
		return "00-" + parts[1] + "-" + parts[2] + "-00"
	}
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails
	return fmt.Sprintf("00-%x-%x-00", random[:16], random[16:])
}

// PassTrace makes activities and children part of the trace that the orchestration belongs to, below the span of its execution.
// lists hold its history.
func PassTrace(start *backend.HistoryEvent, scheduled []*backend.HistoryEvent, lists ...[]*backend.HistoryEvent) {
	parent := start.GetExecutionStarted().GetParentTraceContext()
	parts := strings.Split(parent.GetTraceParent(), "-")
	if len(parts) != 4 {
		return
	}
	own := proto.CloneOf(parent)
	own.TraceParent = fmt.Sprintf("00-%s-%x-00", parts[1], SpanID(start, lists...))
	for _, e := range scheduled {
		if task := e.GetTaskScheduled(); task != nil {
			task.ParentTraceContext = own
		} else if child := e.GetExecutionStarted(); child != nil {
			child.ParentTraceContext = own
		}
	}
}
