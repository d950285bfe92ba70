package local

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/microsoft/durabletask-go/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// starter is an app whose function Start calls f with the durable client of its binding.
func starter(t testing.TB, f func(context.Context, *durable.Client) error) *testkit.App {
	app := testkit.NewApp(t).Orchestrator(fanOut)
	app.Answers["Start"] = func(w http.ResponseWriter, r *http.Request) {
		calls := app.Seen("Start")
		c, err := durable.NewClient(text(calls[len(calls)-1].Data["starter"]), durable.MaxPayload)
		if err == nil {
			err = f(r.Context(), c)
		}
		if err != nil {
			fail(w, err.Error())
			return
		}
		answerJSON(w, map[string]any{})
	}
	return app
}

// TestDelivery: a delivery names the instances that its function started, and those that it tried to start and found, whatever the
// message says.
func TestDelivery(t *testing.T) {
	t.Parallel()
	h := open(t, starter(t, func(ctx context.Context, c *durable.Client) error {
		for _, id := range []string{"there", "new", "new"} {
			if _, err := c.StartOnce(ctx, "Orch", id, 1); err != nil {
				return err
			}
		}
		_, err := c.Query(ctx, "other") // looked at, not started
		return err
	}))
	run(t, h, "there", "1")
	run(t, h, "other", "1")
	d, err := h.Deliver(t.Context(), "Start", Message{Body: []byte("\xff\xfe{}")})
	if want := []string{"there", "new"}; err != nil || !slices.Equal(d.Instances, want) {
		t.Errorf("instances %v, %v; want %v", d.Instances, err, want)
	}
	expect(t, wait(t, h, "new"), api.RUNTIME_STATUS_COMPLETED, "0")
}

// TestSidecarAsksForItsSecret: other programs on the machine are refused, whatever they call.
func TestSidecarAsksForItsSecret(t *testing.T) {
	t.Parallel()
	h := open(t, testkit.NewApp(t))
	conn, err := grpc.NewClient(h.sidecar.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	good := "Bearer " + h.sidecar.NewCaller().Token
	for name, header := range map[string]string{"none": "", "wrong": "Bearer x.y", "empty secret": "Bearer .", "no scheme": "Basic " + good[7:]} {
		ctx := t.Context()
		if header != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
		}
		for _, method := range []string{"Hello", "StartInstance", "GetInstance", "PurgeInstances", "QueryInstances", "RestartInstance", "StreamInstanceHistory", "GetWorkItems"} {
			if err := conn.Invoke(ctx, "/TaskHubSidecarService/"+method, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unauthenticated && method != "GetWorkItems" {
				t.Errorf("%s, %s: %v", name, method, err)
			}
		}
	}
	if err := conn.Invoke(metadata.AppendToOutgoingContext(t.Context(), "authorization", good), "/TaskHubSidecarService/Hello", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
		t.Error(err)
	}
}
