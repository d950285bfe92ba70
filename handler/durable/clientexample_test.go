package durable_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

// exampleHost lets the examples use the fake host.
type exampleHost struct {
	testing.TB
	stop *func()
}

func (exampleHost) Helper()            {}
func (h exampleHost) Cleanup(f func()) { *h.stop = f }
func (exampleHost) Fatal(args ...any)  { panic(fmt.Sprint(args...)) }

// newExampleClient has the client that a trigger function gets by invocation.DurableClient, and a host that knows two
// instances.
func newExampleClient() (client *durable.Client, stop func()) {
	host := testkit.StartSidecar(exampleHost{stop: &stop})
	host.Set("order-1", api.RUNTIME_STATUS_COMPLETED)
	host.SetOutput("order-1", `"shipped"`)
	host.Set("order-2", api.RUNTIME_STATUS_RUNNING)
	client, err := durable.NewClient(testkit.ClientBinding(host.Address), durable.MaxPayload)
	if err != nil {
		panic(err)
	}
	return client, stop
}

func ExampleClient_Start() {
	client, stop := newExampleClient()
	defer stop()
	ctx := context.Background()
	id, err := client.Start(ctx, "Order", "order-3", map[string]int{"items": 2}, durable.StartTags(map[string]string{"customer": "Contoso"}))
	fmt.Println(id, err)

	_, err = client.Start(ctx, "Order", "order-2", nil)
	fmt.Println(errors.Is(err, durable.ErrExists))
	// Output:
	// order-3 <nil>
	// true
}

func ExampleClient_Wait() {
	client, stop := newExampleClient()
	defer stop()
	order, err := client.Wait(context.Background(), "order-1")
	fmt.Println(order.RuntimeStatus, order.SerializedOutput, err)
	// Output: ORCHESTRATION_STATUS_COMPLETED "shipped" <nil>
}

func ExampleClient_List() {
	client, stop := newExampleClient()
	defer stop()
	for order, err := range client.List(context.Background(), durable.Filter{IDPrefix: "order-"}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(order.InstanceID, order.RuntimeStatus)
	}
	// Output:
	// order-1 ORCHESTRATION_STATUS_COMPLETED
	// order-2 ORCHESTRATION_STATUS_RUNNING
}

func ExampleClient_History() {
	client, stop := newExampleClient()
	defer stop()
	events, err := client.History(context.Background(), "order-2")
	if err != nil {
		fmt.Println(err)
	}
	for _, e := range events {
		fmt.Printf("%s %q\n", e.Kind, e.Name)
	}
	// Output:
	// orchestratorStarted ""
	// executionStarted "Orch"
	// orchestratorCompleted ""
}

func ExampleClient_PurgeAll() {
	client, stop := newExampleClient()
	defer stop()
	ctx := context.Background()
	_, err := client.PurgeAll(ctx, durable.Filter{IDPrefix: "order-"})
	fmt.Println(errors.Is(err, durable.ErrBadFilter))

	n, err := client.PurgeAll(ctx, durable.Filter{IDPrefix: "order-", Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED}})
	fmt.Println(n, err)
	// Output:
	// true
	// 1 <nil>
}

func ExampleCheckStatusResponse() {
	client, stop := newExampleClient()
	defer stop()
	start := func(w http.ResponseWriter, r *http.Request) {
		id, err := client.Start(r.Context(), "Order", "order-3", nil)
		if err == nil {
			err = durable.CheckStatusResponse(w, r, client, id)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	w := httptest.NewRecorder()
	start(w, httptest.NewRequest(http.MethodPost, "https://app.example.com/api/order", nil))
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output: 202 https://app.example.com/runtime/webhooks/durabletask/instances/order-3?taskHub=LabHub&connection=Storage&code=LOCALKEY
}
