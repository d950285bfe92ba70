package historyevent

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/proto"
)

// SpanID is the id of the span that stands for the execution that start begins: the same for whoever has the history. One
// that was rewound is another span.
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

// JoinTrace makes an executionStarted a part of the trace that it names, or of a new one, as the real host does when tracing is
// on: with a sampled flag that is always off.
func JoinTrace(start *backend.HistoryEvent) {
	es := start.GetExecutionStarted()
	m := es.ProtoReflect()
	m.Mutable(m.Descriptor().Fields().ByName("parentTraceContext"))
	c := es.GetParentTraceContext()
	c.TraceParent = unsampled(c.GetTraceParent())
}

// unsampled is a traceparent without its flag; a new one if it is none.
func unsampled(traceparent string) string {
	if parts := strings.Split(traceparent, "-"); len(parts) == 4 && len(parts[1]) == 32 && len(parts[2]) == 16 {
		return "00-" + parts[1] + "-" + parts[2] + "-00"
	}
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails
	return fmt.Sprintf("00-%x-%x-00", random[:16], random[16:])
}

// PassTrace makes activities and children part of the trace that the orchestration belongs to, below the span of its execution.
// The lists are its history.
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
