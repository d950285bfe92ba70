package conformance

import (
	"context"
	"encoding/json"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/internal/testkit"
)

// TestSidecarAsRecorded makes the recorded calls of the durable client to the sidecar that the tests of all packages use. It must
// give the recorded answers: otherwise those tests would rely on a host that does not exist.
func TestSidecarAsRecorded(t *testing.T) {
	t.Parallel()
	calls := tally{}
	for _, file := range readRecordings(t) {
		if !strings.HasPrefix(filepath.Base(file.name), "lab-") {
			continue
		}
		for i, line := range file.lines {
			r, ok, err := readRecord(line)
			if err != nil || !ok || r.Function != "QueueStart" {
				continue
			}
			p, err := planOf(r)
			if err != nil {
				t.Errorf("%s:%d: %v", file.name, i+1, err)
			}
			if err != nil || p.method == "" || p.want["instanceId"] == "" {
				continue
			}
			sidecar := testkit.StartSidecar(t)
			if state, known := stateBefore(p); known {
				sidecar.Set(p.id, state)
			}
			if got := status.Convert(call(t, sidecar, p)); got.Code() != status.Code(p.err) || got.Message() != status.Convert(p.err).Message() {
				t.Errorf("%s:%d: %s of %s: %v, recorded is %v", file.name, i+1, p.method, p.id, got, p.err)
			}
			calls[p.method+" "+status.Code(p.err).String()]++
		}
	}
	t.Log(calls)
	if len(calls) < 12 && *recordings == ownRecordings {
		t.Errorf("too few kinds of calls: %s", calls)
	}
}

var stateInWords = regexp.MustCompile(`(?:in the (\w+) state|has status (\w+))`)

// stateBefore returns the state of the instance in which a call ends as recorded. known is false if there was no such instance.
func stateBefore(p plan) (state api.OrchestrationStatus, known bool) {
	message := status.Convert(p.err).Message()
	switch words := stateInWords.FindStringSubmatch(message); {
	case words != nil:
		for number := range int32(10) {
			s := api.OrchestrationStatus(number)
			if strings.EqualFold(strings.TrimPrefix(s.String(), "ORCHESTRATION_STATUS_"), words[1]+words[2]) {
				return s, true
			}
		}
		return 0, false
	case strings.Contains(message, "is not running"), p.method == "PurgeInstances" && p.err == nil:
		return api.RUNTIME_STATUS_COMPLETED, true
	case p.method == "ResumeInstance" && p.err == nil:
		return api.RUNTIME_STATUS_SUSPENDED, true
	}
	return api.RUNTIME_STATUS_RUNNING, status.Code(p.err) != codes.NotFound && (p.method != "StartInstance" || p.err != nil)
}

// call makes the call that a plan describes.
func call(t *testing.T, sidecar *testkit.Sidecar, p plan) error {
	t.Helper()
	fields := map[string]any{}
	for name, v := range p.want {
		if fields[name] = v; v == "true" {
			fields[name] = true
		}
	}
	request, _ := json.Marshal(fields)
	_, err := rpc(t.Context(), t, "http://"+sidecar.Address, p.method, request)
	return err
}

// sidecarMethod finds a method of the service. If durabletask-go has it in an older form only, the module's own package has the
// newer one.
func sidecarMethod(name string) protoreflect.MethodDescriptor {
	for _, service := range []protoreflect.FullName{"durablefunctions.sidecar.TaskHubSidecarService", "TaskHubSidecarService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(service)
		if err != nil {
			continue
		}
		if method := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name)); method != nil {
			return method
		}
	}
	return nil
}

// rpc makes a call to a durable endpoint, with request and reply in protobuf JSON. Fields of the request that durabletask-go does
// not know are left out.
func rpc(ctx context.Context, t *testing.T, endpoint, name string, request json.RawMessage) (json.RawMessage, error) {
	t.Helper()
	method := sidecarMethod(name)
	if method == nil {
		return nil, status.Errorf(codes.Unimplemented, "durabletask-go does not know %s", name)
	}
	message := func(d protoreflect.MessageDescriptor) proto.Message {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return kind.New().Interface()
	}
	in, out := message(method.Input()), message(method.Output())
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(request, in); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+u.User.Username())
	if err := conn.Invoke(ctx, "/TaskHubSidecarService/"+name, in, out); err != nil {
		return nil, err
	}
	return protojson.Marshal(out)
}
