package conformance

import (
	"fmt"
	"net"
	"path"
	"sync"
	"testing"

	_ "github.com/microsoft/durabletask-go/backend" // registers the messages
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// sidecar serves the durable client's TaskHubSidecarService as the plan says, and keeps the calls.
type sidecar struct {
	address string

	mu   sync.Mutex
	plan plan
	made []call
}

// call is a call of the durable client.
type call struct {
	method  string
	hub     string // from the metadata
	request map[string]string
}

func startSidecar(t *testing.T) *sidecar {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sidecar{address: l.Addr().String()}
	server := grpc.NewServer(grpc.UnknownServiceHandler(s.serve), grpc.MaxRecvMsgSize(128<<20))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s
}

func (s *sidecar) expect(p plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan, s.made = p, nil
}

func (s *sidecar) calls() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made
}

func (s *sidecar) serve(_ any, stream grpc.ServerStream) error {
	fullName, _ := grpc.MethodFromServerStream(stream)
	method, err := findMethod(path.Base(fullName))
	if err != nil {
		return err
	}
	request, reply := newMessage(method.Input()), newMessage(method.Output())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(stream.Context())
	text, err := s.answer(call{
		method:  string(method.Name()),
		hub:     fmt.Sprint(append(md.Get("Durable-TaskHub"), "")[0]),
		request: fields(request.ProtoReflect()),
	})
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal([]byte(text), reply); err != nil {
		return err
	}
	return stream.SendMsg(reply)
}

func (s *sidecar) answer(c call) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, c)
	switch {
	case c.method == s.plan.method:
		return s.plan.reply, s.plan.err
	case c.method == "GetInstance":
		return `{"exists":true,"orchestrationState":{"orchestrationStatus":"ORCHESTRATION_STATUS_COMPLETED"}}`, nil
	}
	return `{}`, nil
}

func findMethod(name string) (protoreflect.MethodDescriptor, error) {
	service, err := protoregistry.GlobalFiles.FindDescriptorByName("TaskHubSidecarService")
	if err != nil {
		return nil, err
	}
	method := service.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if method == nil {
		return nil, fmt.Errorf("TaskHubSidecarService has no method %s", name)
	}
	return method, nil
}

// newMessage makes a message of a type that durabletask-go registers and does not export.
func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // the registry has the descriptor, so it has the type
	}
	return t.New().Interface()
}
