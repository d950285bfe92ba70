package testkit

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	_ "github.com/microsoft/durabletask-go/backend" // registers the types of the messages
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Sidecar is the host's durable endpoint. It keeps the calls that it gets and answers them as the real one was recorded to
// (extension 3.19). It knows instances, but does not run them.
type Sidecar struct {
	Address string
	// Answer, unless nil, sees each call first. If it returns ok, its error or its reply (protobuf JSON) is the answer. It may
	// use the Sidecar's other methods. Set it before the first call.
	Answer func(ctx context.Context, c Call) (reply string, ok bool, err error)
	// StartedAs is the status of an instance right after its start. The default is running.
	StartedAs api.OrchestrationStatus

	server   *grpc.Server
	accepted atomic.Int32

	mu        sync.Mutex
	calls     []Call
	started   []Start
	instances map[string]*instance
}

// Call is a call of a durable client.
type Call struct {
	Method string
	Header metadata.MD
	Fields map[string]string // the fields of the request, by path
}

// Hub returns the task hub that the call names.
func (c Call) Hub() string { return append(c.Header.Get("Durable-TaskHub"), "")[0] }

type instance struct {
	name, input, output string
	status              api.OrchestrationStatus
	created             time.Time
	tags                map[string]string
}

func (i *instance) ended() bool {
	return i != nil && (&api.OrchestrationMetadata{RuntimeStatus: i.status}).IsComplete()
}

// StartSidecar serves on a free port until the test ends.
func StartSidecar(t testing.TB) *Sidecar {
	t.Helper()
	s := &Sidecar{Address: "127.0.0.1:0", instances: map[string]*instance{}}
	s.Listen(t)
	return s
}

// Listen serves at the address; a test can call it again after Stop.
func (s *Sidecar) Listen(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	s.Address = l.Addr().String()
	server := grpc.NewServer(grpc.UnknownServiceHandler(s.serve), grpc.MaxRecvMsgSize(math.MaxInt32))
	s.server = server
	go func() { _ = server.Serve(countingListener{l, &s.accepted}) }()
	t.Cleanup(server.Stop)
}

// Stop ends the service and closes all connections.
func (s *Sidecar) Stop() { s.server.Stop() }

// Connections returns how many connections were opened.
func (s *Sidecar) Connections() int { return int(s.accepted.Load()) }

type countingListener struct {
	net.Listener
	accepted *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// clientBinding is a durableClient binding as extension 3.19 sends it.
const clientBinding = `{"taskHubName":"LabHub","connectionName":null,"creationUrls":null,"managementUrls":null,"baseUrl":null,` +
	`"requiredQueryStringParameters":"code=LOCALKEY","rpcBaseUrl":"http://ENDPOINT","httpBaseUrl":"http://localhost:7171/runtime/webhooks/durabletask",` +
	`"useForwardedHost":false,"maxGrpcMessageSizeInBytes":4194304,"grpcHttpClientTimeout":"\"00:01:40\""}`

// ClientBinding returns the value of a durableClient binding for the endpoint at this address. replace holds pairs of old and new
// text.
func ClientBinding(address string, replace ...string) string {
	return strings.NewReplacer(append(replace, "ENDPOINT", address)...).Replace(clientBinding)
}

// Set adds an instance with this status, or replaces the one with this id.
func (s *Sidecar) Set(id string, status api.OrchestrationStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances[id] = &instance{name: "Orch", status: status, created: time.Now()}
}

// SetOutput gives a known instance an output.
func (s *Sidecar) SetOutput(id, output string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances[id].output = output
}

// Calls returns the calls so far, of these methods or of all.
func (s *Sidecar) Calls(methods ...string) (calls []Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if len(methods) == 0 || slices.Contains(methods, c.Method) {
			calls = append(calls, c)
		}
	}
	return calls
}

// Forget forgets the calls so far.
func (s *Sidecar) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// Start is an orchestration that a client has started.
type Start struct{ Name, ID, Input string }

// Started returns the starts in order, without those that were answered with an error.
func (s *Sidecar) Started() []Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.started)
}

func (s *Sidecar) serve(_ any, stream grpc.ServerStream) error {
	fullName, _ := grpc.MethodFromServerStream(stream)
	method, err := findMethod(path.Base(fullName))
	if err != nil {
		return err
	}
	request, reply := newMessage(method.Input()), newMessage(method.Output())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	header, _ := metadata.FromIncomingContext(stream.Context())
	text, err := s.answer(stream.Context(), Call{string(method.Name()), header, Fields(request.ProtoReflect())})
	if err != nil {
		return err
	}
	if method.Name() == "StreamInstanceHistory" {
		if text, err = packEvents(text); err != nil {
			return err
		}
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), reply); err != nil {
		return err
	}
	return stream.SendMsg(reply)
}

func (s *Sidecar) answer(ctx context.Context, c Call) (string, error) {
	s.mu.Lock()
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	if s.Answer != nil {
		if reply, ok, err := s.Answer(ctx, c); ok {
			return reply, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := c.Fields["instanceId"]
	switch i := s.instances[id]; c.Method {
	case "StartInstance":
		return s.start(c)
	case "GetInstance":
		return i.state(id, c.Fields["getInputsAndOutputs"] == "true"), nil
	case "PurgeInstances":
		return s.purge(c)
	case "QueryInstances":
		return s.query(c)
	case "StreamInstanceHistory":
		return i.history(id)
	case "RestartInstance":
		return s.restart(c)
	case "RewindInstance":
		return `{}`, i.rewind(id)
	case "RaiseEvent":
		return `{}`, i.raise(id)
	case "TerminateInstance":
		return `{}`, i.steer(id, "terminate", i.ended())
	case "SuspendInstance":
		return `{}`, i.steer(id, "suspend", i.ended() || i != nil && i.status == api.RUNTIME_STATUS_SUSPENDED)
	case "ResumeInstance":
		return `{}`, i.steer(id, "resume", i.ended() || i != nil && i.status == api.RUNTIME_STATUS_RUNNING)
	}
	return "", status.Errorf(codes.Unimplemented, "%s is not played", c.Method)
}

// start follows the reuse policy: without one, any ended instance is replaced; with one, only an instance in one of the statuses
// that it lists. A running instance is never replaced.
func (s *Sidecar) start(c Call) (string, error) {
	id := c.Fields["instanceId"]
	if id == "" {
		id = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	if i := s.instances[id]; i != nil {
		_, policy := c.Fields["orchestrationIdReusePolicy"]
		if !i.ended() || policy && !replaceable(c, i.status) {
			return "", status.Errorf(codes.AlreadyExists, "An Orchestration instance with the ID %s already exists.", id)
		}
	}
	s.started = append(s.started, Start{c.Fields["name"], id, c.Fields["input"]})
	s.instances[id] = &instance{name: c.Fields["name"], input: c.Fields["input"], status: s.StartedAs, created: time.Now(), tags: tags(c)}
	reply, err := json.Marshal(map[string]string{"instanceId": id})
	return string(reply), err
}

func replaceable(c Call, was api.OrchestrationStatus) bool {
	for name, v := range c.Fields {
		if strings.HasPrefix(name, "orchestrationIdReusePolicy.replaceableStatus[") && v == was.String() {
			return true
		}
	}
	return false
}

func (i *instance) state(id string, whole bool) string {
	if i == nil {
		return `{}`
	}
	state := i.fields(id, whole)
	if whole {
		state["output"] = i.output
	}
	state["tags"] = i.tags
	reply, _ := json.Marshal(map[string]any{"exists": true, "orchestrationState": state})
	return string(reply)
}

func (i *instance) fields(id string, input bool) map[string]any {
	state := map[string]any{
		"instanceId": id, "name": i.name, "orchestrationStatus": i.status.String(), "customStatus": "null",
		"createdTimestamp": i.created.UTC().Format(time.RFC3339Nano), "lastUpdatedTimestamp": i.created.UTC().Format(time.RFC3339Nano),
	}
	if input {
		state["input"] = i.input
	}
	return state
}

func (s *Sidecar) purge(c Call) (string, error) {
	id := c.Fields["instanceId"]
	if _, ok := c.Fields["purgeInstanceFilter"]; ok {
		return s.purgeFiltered(c), nil
	}
	switch i := s.instances[id]; {
	case i == nil:
		return `{}`, nil
	case !i.ended():
		return "", status.Errorf(codes.FailedPrecondition, "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID %s has status %s", id, i.word())
	}
	delete(s.instances, id)
	return `{"deletedInstanceCount":1}`, nil
}

// word is the status as the host writes it, such as Running.
func (i *instance) word() string {
	name := strings.TrimPrefix(i.status.String(), "ORCHESTRATION_STATUS_")
	return name[:1] + strings.ToLower(name[1:])
}

func (i *instance) raise(id string) error {
	switch {
	case i == nil:
		return status.Errorf(codes.NotFound, "No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case i.ended():
		return status.Error(codes.FailedPrecondition, "The orchestration instance with the provided instance id is not running.")
	}
	return nil
}

func (i *instance) steer(id, verb string, cannot bool) error {
	switch {
	case i == nil:
		return status.Errorf(codes.NotFound, "ArgumentException: No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case cannot:
		return status.Errorf(codes.FailedPrecondition, "InvalidOperationException: Cannot %s the orchestration instance %s because instance is in the %s state.", verb, id, i.word())
	}
	return nil
}

func findMethod(name string) (protoreflect.MethodDescriptor, error) {
	// For messages that durabletask-go has in an older form only, the module has newer ones in a package of its own.
	for _, service := range []protoreflect.FullName{"durablefunctions.sidecar.TaskHubSidecarService", "TaskHubSidecarService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(service)
		if err != nil {
			continue
		}
		if method := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name)); method != nil {
			return method, nil
		}
	}
	return nil, fmt.Errorf("TaskHubSidecarService has no method %s", name)
}

// newMessage makes a message of a type that durabletask-go registers but does not export.
func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // cannot happen: the registry has the descriptor, so it has the type
	}
	return t.New().Interface()
}

// Fields lists everything in a message, by path. A message within it has an entry too, even if it is empty.
func Fields(m protoreflect.Message) map[string]string {
	out := map[string]string{}
	addFields(out, "", m)
	return out
}

func addFields(out map[string]string, prefix string, m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := prefix + string(f.Name())
		switch {
		case f.IsList():
			for i := range v.List().Len() {
				addField(out, fmt.Sprintf("%s[%d]", path, i), f, v.List().Get(i))
			}
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				addField(out, fmt.Sprintf("%s[%s]", path, key), f.MapValue(), v)
				return true
			})
		default:
			addField(out, path, f, v)
		}
		return true
	})
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		out[prefix+"unknown fields"] = fmt.Sprintf("%x", []byte(unknown))
	}
}

func addField(out map[string]string, path string, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case f.Enum() != nil:
		out[path] = fmt.Sprint(v.Enum())
		if value := f.Enum().Values().ByNumber(v.Enum()); value != nil {
			out[path] = string(value.Name())
		}
		return
	case f.Message() == nil:
		out[path] = v.String()
		return
	}
	switch m := v.Message().Interface().(type) {
	case *wrapperspb.StringValue:
		out[path] = m.Value
	case *timestamppb.Timestamp:
		out[path] = m.AsTime().Format(time.RFC3339Nano)
	default:
		out[path] = "" // the entry says that the message is set
		addFields(out, path+".", v.Message())
	}
}
