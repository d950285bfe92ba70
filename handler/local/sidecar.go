package local

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
)

// sidecar serves the durable client's gRPC service, TaskHubSidecarService, on a free loopback port. durabletask-go
// implements the service; the answers are the host's.
type sidecar struct {
	hub     *taskHub
	log     *slog.Logger
	server  *grpc.Server
	address string
}

// maxGrpcMessage lets the largest input and output of an instance pass in one answer, as the client does.
const maxGrpcMessage = 2*durable.MaxPayload + 1<<20

func startSidecar(hub *taskHub, log *slog.Logger) (*sidecar, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sidecar{hub: hub, log: log, address: listener.Addr().String()}
	s.server = grpc.NewServer(grpc.MaxRecvMsgSize(maxGrpcMessage), grpc.MaxSendMsgSize(maxGrpcMessage),
		grpc.UnaryInterceptor(s.call), grpc.StreamInterceptor(refuseStream))
	_, register := backend.NewGrpcExecutor(clientBackend{hub}, engineLog{log})
	register(s.server)
	go func() {
		if err := s.server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			log.Error("the durable client's service has ended", "error", err)
		}
	}()
	return s, nil
}

// refuseStream: GetWorkItems is for workers, and the host is the only one.
func refuseStream(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error {
	return status.Error(codes.Unimplemented, "this host has no work items for others")
}

// call answers one call, with the host's errors.
func (s *sidecar) call(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := s.prepare(ctx, path.Base(info.FullMethod), request); err != nil {
		return nil, err
	}
	response, err := next(ctx, request)
	var answer interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil:
		return response, nil
	case path.Base(info.FullMethod) == "PurgeInstances" && errors.Is(err, api.ErrInstanceNotFound):
		return response, nil // which says that none was purged
	case errors.As(err, &answer):
		return nil, answer.GRPCStatus().Err()
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	s.log.Error("a call of the durable client failed", "method", info.FullMethod, "error", err)
	return nil, handlerException()
}

// prepare refuses what durabletask-go lacks, and waits in its place: it would poll.
func (s *sidecar) prepare(ctx context.Context, method string, request any) error {
	started := func(i Instance) bool { return i.Status != api.RUNTIME_STATUS_PENDING }
	ended := func(i Instance) bool { return isFinished(i.Status) }
	switch method {
	case "Hello", "StartInstance", "GetInstance", "RaiseEvent", "TerminateInstance", "SuspendInstance", "ResumeInstance":
		return nil
	case "WaitForInstanceStart":
		return s.wait(ctx, request, started)
	case "WaitForInstanceCompletion":
		return s.wait(ctx, request, ended)
	case "PurgeInstances":
		m := request.(proto.Message).ProtoReflect()
		if !m.Has(m.Descriptor().Fields().ByName("purgeInstanceFilter")) {
			return nil
		}
	}
	return status.Errorf(codes.Unimplemented, "the local host does not implement %s of this kind", method)
}

func (s *sidecar) wait(ctx context.Context, request any, until func(Instance) bool) error {
	id := request.(interface{ GetInstanceId() string }).GetInstanceId()
	_, err := s.hub.wait(ctx, id, until)
	switch {
	case err == nil, errors.Is(err, api.ErrInstanceNotFound): // the answer says that there is none
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}

// handlerException is the host's answer to whatever it did not expect.
func handlerException() error {
	return status.Error(codes.Unknown, "Exception was thrown by handler.")
}

// clientBackend is the task hub as a durable client sees it: each operation is checked first.
type clientBackend struct {
	*taskHub
}

func (b clientBackend) CreateOrchestrationInstance(ctx context.Context, e *backend.HistoryEvent, reuse ...backend.OrchestrationIdReusePolicyOptions) error {
	id := e.GetExecutionStarted().GetOrchestrationInstance().GetInstanceId()
	if err := checkInstanceID(id); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	err := b.taskHub.CreateOrchestrationInstance(ctx, e, reuse...)
	if errors.Is(err, api.ErrDuplicateInstance) {
		return status.Errorf(codes.AlreadyExists, "An Orchestration instance with the ID %s already exists.", id)
	}
	return err
}

// GetOrchestrationMetadata returns nil for an unknown instance, which is an answer and no error.
func (b clientBackend) GetOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	m, err := b.taskHub.GetOrchestrationMetadata(ctx, id)
	if errors.Is(err, api.ErrInstanceNotFound) {
		return nil, nil
	}
	return m, err
}

func (b clientBackend) AddNewOrchestrationEvent(ctx context.Context, id api.InstanceID, e *backend.HistoryEvent) error {
	i, err := b.instance(ctx, string(id))
	found := !errors.Is(err, api.ErrInstanceNotFound)
	if err != nil && found {
		return err
	}
	finished := found && isFinished(i.Status)
	switch {
	case e.GetExecutionTerminated() != nil && !found:
		return status.Errorf(codes.NotFound, "ArgumentException: No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case e.GetExecutionTerminated() != nil && finished:
		return status.Errorf(codes.FailedPrecondition, "InvalidOperationException: Cannot terminate the orchestration instance %s because instance is in the %s state.", id, statusName(i.Status))
	case e.GetExecutionSuspended() != nil && (!found || finished || i.Status == api.RUNTIME_STATUS_SUSPENDED),
		e.GetExecutionResumed() != nil && (!found || finished):
		return handlerException()
	case !found:
		return status.Errorf(codes.NotFound, "No instance with ID '%s' was found. (Parameter 'instanceId')", id)
	case finished:
		return status.Error(codes.FailedPrecondition, "The orchestration instance with the provided instance id is not running.")
	}
	return b.taskHub.AddNewOrchestrationEvent(ctx, id, e)
}

func (b clientBackend) PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error {
	err := b.taskHub.PurgeOrchestrationState(ctx, id)
	if running := (*notFinishedError)(nil); errors.As(err, &running) {
		return status.Error(codes.FailedPrecondition, running.Error())
	}
	return err
}
