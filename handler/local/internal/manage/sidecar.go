// Package manage lets clients look at instances and control them. It serves TaskHubSidecarService, the gRPC service that a
// function's durable client calls, and the Durable HTTP API.
//
//	sidecar, err := manage.StartSidecar(hub, hubName, log)
//	if err != nil {
//		return err
//	}
//	defer sidecar.Close()
//	// sidecar.Address goes into the durableClient binding
//
// The task hub does the operations. The answers are those of the real host.
package manage

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Sidecar serves TaskHubSidecarService on a free loopback port. durabletask-go implements the service; the answers are like the
// real host's.
type Sidecar struct {
	Address string // host:port

	callers callers
	hub     *taskhub.TaskHub
	hubName string
	backend clientBackend
	log     *slog.Logger
	server  *grpc.Server
}

// maxGrpcMessage is large enough for one answer with an instance's largest input and output. The client has the same limit.
const maxGrpcMessage = 2*durable.MaxPayload + 1<<20

// StartSidecar starts the service of a task hub. hubName is the name that clients use for it.
func StartSidecar(hub *taskhub.TaskHub, hubName string, log *slog.Logger) (*Sidecar, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sidecar{callers: newCallers(), hub: hub, hubName: hubName, backend: clientBackend{hub}, log: log, Address: listener.Addr().String()}
	s.server = grpc.NewServer(grpc.MaxRecvMsgSize(maxGrpcMessage), grpc.MaxSendMsgSize(maxGrpcMessage),
		grpc.UnaryInterceptor(s.call), grpc.StreamInterceptor(refuseWorkers), grpc.UnknownServiceHandler(s.answerUnknown))
	_, register := backend.NewGrpcExecutor(s.backend, taskhub.NewLogger(log))
	register(s.server)
	go func() {
		if err := s.server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			log.Error("the durable client's service has ended", "error", err)
		}
	}()
	return s, nil
}

// Close stops the service.
func (s *Sidecar) Close() { s.server.Stop() }

// refuseWorkers refuses GetWorkItems: it is for workers, and the host is the only worker.
func refuseWorkers(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if path.Base(info.FullMethod) == "GetWorkItems" {
		return status.Error(codes.Unimplemented, "")
	}
	return next(server, stream)
}

// call answers one call, with the host's errors.
func (s *Sidecar) call(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	caller, err := s.callers.find(ctx)
	if err != nil {
		return nil, err
	}
	method := path.Base(info.FullMethod)
	if reply, ok, err := s.callEntities(ctx, method, request); ok {
		return reply, err
	}
	var response any
	answered, done, err := s.answerNew(ctx, method, request.(proto.Message))
	if done {
		response = answered
	} else {
		if err := s.prepare(ctx, method, request); err != nil {
			return nil, err
		}
		response, err = next(ctx, request)
	}
	caller.note(method, request, response, err)
	switch asked, _ := request.(interface{ GetGetInputsAndOutputs() bool }); {
	case err == nil && asked != nil && asked.GetGetInputsAndOutputs():
		return s.addStart(ctx, response.(proto.Message))
	case err == nil:
		return response, nil
	}
	return nil, s.explain(ctx, method, err)
}

// explain returns the error that the caller sees.
func (s *Sidecar) explain(ctx context.Context, method string, err error) error {
	var answer interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &answer):
		return answer.GRPCStatus().Err()
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	s.log.Error("a call of the durable client failed", "method", method, "error", err)
	return handlerException()
}

// prepare refuses the calls that durabletask-go does not support, and waits for instances itself: durabletask-go would poll.
func (s *Sidecar) prepare(ctx context.Context, method string, request any) error {
	started := func(i taskhub.Instance) bool { return i.Status != api.RUNTIME_STATUS_PENDING }
	ended := func(i taskhub.Instance) bool { return i.IsFinished() }
	switch method {
	case "Hello", "GetInstance", "TerminateInstance", "SuspendInstance", "ResumeInstance":
		return nil
	case "RaiseEvent":
		return checkEvent(request)
	case "WaitForInstanceStart":
		return s.wait(ctx, request, started)
	case "WaitForInstanceCompletion":
		return s.wait(ctx, request, ended)
	}
	return status.Error(codes.Unimplemented, "")
}

// checkEvent refuses an event without a name or without an instance id.
func checkEvent(request any) error {
	e := request.(interface {
		GetInstanceId() string
		GetName() string
	})
	for parameter, v := range map[string]string{"instanceId": e.GetInstanceId(), "eventName": e.GetName()} {
		if v == "" {
			return status.Errorf(codes.InvalidArgument, "Value cannot be null. (Parameter '%s')", parameter)
		}
	}
	return nil
}

func (s *Sidecar) wait(ctx context.Context, request any, until func(taskhub.Instance) bool) error {
	id := request.(interface{ GetInstanceId() string }).GetInstanceId()
	_, err := s.hub.Wait(ctx, id, until)
	switch {
	case err == nil, errors.Is(err, api.ErrInstanceNotFound): // the answer says that there is no instance
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

// handlerException is the host's answer to every error that it does not expect.
func handlerException() error {
	return status.Error(codes.Unknown, "Exception was thrown by handler.")
}

// clientBackend is the task hub for a durable client. It checks each operation before the task hub does it.
type clientBackend struct {
	*taskhub.TaskHub
}

func (b clientBackend) CreateOrchestrationInstance(ctx context.Context, e *backend.HistoryEvent, reuse ...backend.OrchestrationIdReusePolicyOptions) error {
	id := e.GetExecutionStarted().GetOrchestrationInstance().GetInstanceId()
	if err := funchost.CheckInstanceID(id); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	err := b.TaskHub.CreateOrchestrationInstance(ctx, e, reuse...)
	if errors.Is(err, api.ErrDuplicateInstance) {
		return status.Errorf(codes.AlreadyExists, "An Orchestration instance with the ID %s already exists.", id)
	}
	return err
}

// GetOrchestrationMetadata returns nil without an error for an unknown instance. Once an instance has had a turn, the host shows a
// missing custom status as null.
func (b clientBackend) GetOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	m, err := b.TaskHub.GetOrchestrationMetadata(ctx, id)
	if errors.Is(err, api.ErrInstanceNotFound) {
		return nil, nil
	}
	if err == nil && m.SerializedCustomStatus == "" && m.RuntimeStatus != api.RUNTIME_STATUS_PENDING {
		m.SerializedCustomStatus = "null"
	}
	return m, err
}

func (b clientBackend) AddNewOrchestrationEvent(ctx context.Context, id api.InstanceID, e *backend.HistoryEvent) error {
	i, err := b.Get(ctx, string(id))
	found := !errors.Is(err, api.ErrInstanceNotFound)
	if err != nil && found {
		return err
	}
	finished := found && i.IsFinished()
	verb, cannot := "", finished
	switch {
	case e.GetExecutionTerminated() != nil:
		verb = "terminate"
	case e.GetExecutionSuspended() != nil:
		verb, cannot = "suspend", finished || i.Status == api.RUNTIME_STATUS_SUSPENDED
	case e.GetExecutionResumed() != nil:
		verb, cannot = "resume", finished || i.Status == api.RUNTIME_STATUS_RUNNING
	}
	switch {
	case !found && verb != "":
		return status.Errorf(codes.NotFound, "ArgumentException: No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case !found:
		return status.Errorf(codes.NotFound, "No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case cannot && verb != "":
		return status.Errorf(codes.FailedPrecondition, "InvalidOperationException: Cannot %s the orchestration instance %s because instance is in the %s state.", verb, id, historyevent.StatusName(i.Status))
	case cannot:
		return status.Error(codes.FailedPrecondition, "The orchestration instance with the provided instance id is not running.")
	}
	return b.TaskHub.AddNewOrchestrationEvent(ctx, id, e)
}
