package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// Order is what FulfilOrder is started with.
type Order struct {
	Item string `json:"item"`
}

// router serves StartOrder. It has the path as the client called it.
func router() http.Handler {
	r := chi.NewRouter()
	r.Post("/api/orders/{id}", startOrder)
	return r
}

func startOrder(w http.ResponseWriter, r *http.Request) {
	var order Order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&order); err != nil || durable.CheckID(order.Item) != nil {
		http.Error(w, `the body must be {"item":"…"}, with the item's name in it`, http.StatusBadRequest)
		return
	}
	id, err := start(r.Context(), "order-"+r.PathValue("id"), order)
	if err != nil {
		durable.Log(r.Context()).Error("no order was started", "error", err)
		http.Error(w, "the order cannot be taken now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(map[string]string{"id": id})
}

func start(ctx context.Context, id string, order Order) (string, error) {
	client, err := durable.FromContext(ctx)
	if err != nil {
		return "", err
	}
	return client.Start(ctx, "FulfilOrder", id, order)
}

func onOrderMessage(ctx context.Context, order Order, m handler.Message) error {
	_, err := start(ctx, "order-"+m.ID, order)
	return err
}

// onPayment raises an event for the order that the message's subject names.
func onPayment(ctx context.Context, m handler.Message) error {
	client, err := durable.FromContext(ctx)
	if err != nil {
		return err
	}
	return client.Raise(ctx, m.Subject, "Paid", string(m.Body))
}

// Ship is the activity of that name.
const shipActivity = durable.ActivityName[Order, string]("Ship")

// fulfilOrder reserves a piece and ships it. What cannot be shipped goes back into the stock.
func fulfilOrder(ctx *task.OrchestrationContext, order Order) (string, error) {
	_, err := reserve.Call(ctx, order.Item, 1).Await()
	if failed := (*durable.TaskError)(nil); errors.As(err, &failed) && !failed.Infrastructure() {
		return order.Item + " is sold out: " + failed.Message, nil
	}
	if err != nil {
		return "", err
	}
	shipped, err := shipActivity.Call(ctx, order).Await()
	if err != nil {
		restock.Signal(ctx, order.Item, 1)
	}
	return shipped, err
}

func ship(_ context.Context, order Order) (string, error) { return "shipped " + order.Item, nil }

// Report is what goes to the queue reports.
type Report struct {
	What  string    `json:"what"`
	Lines int       `json:"lines"`
	At    time.Time `json:"at,omitzero"`
}

const reports = handler.OutputName[Report]("reports")

func nightly(ctx context.Context, t handler.Timer) error {
	report := Report{What: "nightly"}
	if t.IsPastDue {
		report.What = "nightly, late"
	}
	if t.Status != nil {
		report.At = t.Status.Last
	}
	reports.Set(ctx, report)
	return nil
}

func onUpload(ctx context.Context, b handler.Blob) error {
	reports.Set(ctx, Report{What: b.Name, Lines: strings.Count(string(b.Content), "\n"), At: b.LastModified})
	return nil
}
