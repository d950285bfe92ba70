package functions

import (
	"context"
	"encoding/json"
	"fmt"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// command is what a message asks the durable client to do. encoding/json matches the names in any case.
type command struct {
	ID, Orchestrator, Event                  string
	Input                                    json.RawMessage
	Terminate, Suspend, Resume, Purge, Query string
}

// queueStart does not fail if a call of the client fails. It only logs the outcome, in the form of the notes in the recordings.
func queueStart(ctx context.Context, in *handler.Invocation) error {
	client, err := in.DurableClient("starter")
	if err != nil {
		return err
	}
	outcome := "not a command: " + in.Text("item")
	var c command
	if json.Unmarshal([]byte(in.Text("item")), &c) == nil && !c.incomplete() {
		outcome, err = c.run(ctx, client)
	}
	durable.Log(ctx).Info("outcome", "note", fmt.Sprintf("%s err=%v", outcome, err))
	return nil
}

// incomplete says whether the message is an object that is not a command.
func (c command) incomplete() bool {
	return c.Input == nil && c.Terminate+c.Suspend+c.Resume+c.Purge+c.Query == ""
}

func (c command) run(ctx context.Context, client *durable.Client) (string, error) {
	switch {
	case c.Terminate != "":
		return "terminated", client.Terminate(ctx, c.Terminate, "why")
	case c.Suspend != "":
		return "suspended", client.Suspend(ctx, c.Suspend, "why")
	case c.Resume != "":
		return "resumed", client.Resume(ctx, c.Resume, "why")
	case c.Purge != "":
		return "purged", client.Purge(ctx, c.Purge)
	case c.Query != "":
		state, err := client.Query(ctx, c.Query)
		if err != nil {
			return "<nil>", err
		}
		return fmt.Sprintf("%+v", &state.OrchestrationMetadata), nil
	case c.Event != "":
		return "raised", client.Raise(ctx, c.ID, c.Event, c.Input)
	}
	if c.Orchestrator == "" {
		c.Orchestrator = "Orch"
	}
	return client.Start(ctx, c.Orchestrator, c.ID, c.Input)
}
