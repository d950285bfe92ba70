package main

import (
	"context"
	"encoding/json"
	"fmt"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// onEvent takes an event of Event Grid, a JSON object.
func onEvent(ctx context.Context, in *handler.Invocation) error {
	var event struct{ ID, EventType, Type, Subject string } // Type is that of a CloudEvent
	if err := json.Unmarshal(in.Bytes("event"), &event); err != nil {
		return fmt.Errorf("not an event: %w", err)
	}
	durable.Log(ctx).Info("an event", "id", event.ID, "type", event.EventType+event.Type, "subject", event.Subject)
	return nil
}

// onTelemetry takes an event of an event hub. With "cardinality": "one" it is what was sent; a custom handler gets no more at once.
func onTelemetry(ctx context.Context, in *handler.Invocation) error {
	var event struct{ Device string }
	if err := json.Unmarshal(in.Bytes("event"), &event); err != nil {
		return fmt.Errorf("not an event: %w", err)
	}
	partition, _ := in.Metadata("PartitionContext")
	durable.Log(ctx).Info("telemetry", "device", event.Device, "partition", partition)
	return nil
}

// onDocument takes the documents of Cosmos DB that have changed, a JSON array.
func onDocument(ctx context.Context, in *handler.Invocation) error {
	var documents []struct{ ID string }
	if err := json.Unmarshal(in.Bytes("documents"), &documents); err != nil {
		return fmt.Errorf("not a list of documents: %w", err)
	}
	for _, d := range documents {
		durable.Log(ctx).Info("a document has changed", "id", d.ID)
	}
	return nil
}
