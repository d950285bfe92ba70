package replay

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/durablefunctions/handler/internal/wire"
)

// TerminateEvent is the name of the external event by which a terminated orchestration has its children terminate, for
// the host does not tell them. It ends an orchestration as a termination does, with its payload as the reason.
const TerminateEvent = "durable.terminate"

func isTermination(e *backend.HistoryEvent) bool {
	r := e.GetEventRaised()
	return r != nil && len(r.Name) == len(TerminateEvent) && strings.EqualFold(r.Name, TerminateEvent)
}

// maxID is how many characters an instance id has at most.
const maxID = 100

// childID is the id of the child that action number n starts: the parent's, so that whoever looks for an instance finds
// its tree by the prefix; the execution, as the numbers come again after a continue-as-new and when a finished instance
// is started anew, and the host silently replaces a child of the same id; and the number.
func (h *history) childID(n int32) string {
	return fitID(h.instanceID, fmt.Sprintf(":%s:%d", digest(h.executionID, 8), n))
}

// fitID joins the two within maxID characters. Where there is no room for all of id it is cut, and a digest of all of it
// stands for the rest.
func fitID(id, end string) string {
	if utf8.RuneCountInString(id)+len(end) <= maxID {
		return id + end
	}
	end = "~" + digest(id, 12) + end
	return string([]rune(id)[:maxID-len(end)]) + end
}

// digest is n characters, of 5 bits each, that stand for the text.
func digest(text string, n int) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.HexEncoding.EncodeToString(sum[:]))[:n]
}

// openChildren returns the ids of the children that were started behind that place in the history and have not ended, in
// order. Of two that were started under one number, by a rewind, one may still run when the other has ended.
func (h *history) openChildren(behind int) []string {
	ended, starts := map[int32]bool{}, map[int32]int{}
	for _, o := range h.outcomes {
		if id, kind, _ := completion(o); kind == subOrchestration {
			ended[id] = true
		}
	}
	for _, e := range h.scheduled {
		if e.GetSubOrchestrationInstanceCreated() != nil && e.at > behind {
			starts[e.EventId]++
		}
	}
	var open []string
	for _, e := range h.scheduled {
		isOpen := e.at > behind && (!ended[e.EventId] || starts[e.EventId] > 1)
		if c := e.GetSubOrchestrationInstanceCreated(); c != nil && isOpen && c.InstanceId != "" {
			open = append(open, c.InstanceId)
		}
	}
	return open
}

// child is what a child is started with beside its input.
type child struct {
	version string
	tags    []byte // as a field of the action
}

// describeChildren gives the children their versions and tags. A child without a version gets the default one, as with
// the other SDKs: the host gives it to what a client starts and to no child.
func (t *Turn) describeChildren(results *backend.ExecutionResults) {
	for _, a := range results.Response.Actions {
		c := a.GetCreateSubOrchestration()
		if c == nil {
			continue
		}
		described := t.children[a.Id]
		if version := cmp.Or(described.version, t.history.fallback); version != "" {
			c.Version = wrapperspb.String(version)
		}
		if fields := c.ProtoReflect(); len(described.tags) > 0 {
			fields.SetUnknown(append(fields.GetUnknown(), described.tags...))
		}
	}
}

// checkChild refuses a child whose start would replace a running instance.
func (h *history) checkChild(name, id string, open map[string]bool) error {
	if err := wire.CheckInstanceID(id); err != nil {
		return fmt.Errorf("the id of sub-orchestration %q: %w", name, err)
	}
	switch {
	case id == h.instanceID:
		return fmt.Errorf("sub-orchestration %q cannot have the id %q, which is that of the orchestration that starts it", name, id)
	case id == h.parentID:
		return fmt.Errorf("sub-orchestration %q cannot have the id %q, which is that of the parent of the orchestration that starts it", name, id)
	case open[id]:
		return fmt.Errorf("sub-orchestration %q cannot have the id %q, which a sub-orchestration has that has not ended: "+
			"give each an id of its own, or none (in a fan-out, leave WithInstanceID out)", name, id)
	}
	open[id] = true
	return nil
}

// terminate is the answer that ends the orchestration, and its children with it. Nothing else is scheduled any more; the
// activities that run are left to end.
func (h *history) terminate(next int32) *backend.ExecutionResults {
	results := wire.NewResults(h.instanceID)
	for _, id := range h.openChildren(-1) {
		addAction(results, next, "sendEvent")
		event := last(results.Response.Actions).GetSendEvent()
		fields := event.ProtoReflect()
		fields.Mutable(fields.Descriptor().Fields().ByName("instance"))
		event.Instance.InstanceId, event.Name, event.Data = id, TerminateEvent, h.reason
		next++
	}
	addAction(results, next, "completeOrchestration")
	end := last(results.Response.Actions).GetCompleteOrchestration()
	end.OrchestrationStatus, end.Result = api.RUNTIME_STATUS_TERMINATED, h.reason
	return results
}

// addAction adds an action of the named kind to the answer. durabletask-go does not export the Go types of actions; once
// made, their fields can be set through the getters.
func addAction(results *backend.ExecutionResults, id int32, kind protoreflect.Name) {
	m := results.Response.ProtoReflect()
	action := m.Mutable(m.Descriptor().Fields().ByName("actions")).List().AppendMutable().Message()
	action.Mutable(action.Descriptor().Fields().ByName(kind))
	last(results.Response.Actions).Id = id
}

func last[T any](list []T) T { return list[len(list)-1] }

// TreePrefix begins the id of every instance below one, if childID made it.
func TreePrefix(id string) string {
	const uncut = maxID - len("~123456789012:12345678:-2147483648")
	if runes := []rune(id); len(runes) > uncut {
		return string(runes[:uncut])
	}
	return id
}

// madeID is what childID makes: the parent's id, or what stands for it, the execution and the number. Or it is what again
// makes, of such an id or of what stands for it.
var madeID = regexp.MustCompile(`^((?s:.*)):[0-9a-v]{8}:\d+$|^((?s:.*:[0-9a-v]{8}:\d+|.*~[0-9a-v]{12}))~\d+$`)

// Below returns those of the ids that were made for instances below one, the deepest first. A child that was started again
// counts as one below the child that it replaces.
func Below(id string, ids []string) []string {
	children := map[string][]string{} // by what the ids begin with
	for _, child := range ids {
		m := madeID.FindStringSubmatch(child)
		if m == nil {
			continue
		}
		parent := m[1] + m[2] // one of them is empty
		children[parent] = append(children[parent], child)
		if i := strings.LastIndexByte(parent, '~'); i > 0 {
			children[parent[i:]] = append(children[parent[i:]], child)
		}
	}
	tree := []string{id}
	for i := 0; i < len(tree); i++ {
		parent := tree[i]
		for _, child := range append(children[parent], children["~"+digest(parent, 12)]...) {
			if child != parent {
				tree = append(tree, child)
			}
		}
	}
	slices.Reverse(tree)
	return tree[:len(tree)-1]
}
