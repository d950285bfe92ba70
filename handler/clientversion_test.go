package handler

import (
	"encoding/json"
	"errors"
	"testing"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/wire"
	"example.com/durablefunctions/internal/testkit"
)

// TestDurableClientVersions: the client knows which versions the app takes.
func TestDurableClientVersions(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	binding, err := json.Marshal(testkit.ClientBinding(host.Address))
	if err != nil {
		t.Fatal(err)
	}
	in := &Invocation{request: wire.Request{Data: map[string]json.RawMessage{"starter": binding}}, maxPayload: 100, versions: durable.Versions{Default: "2.0"}}
	c, err := in.DurableClient("starter")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context(), "Orch", "x", nil, durable.StartVersion("2.1")); !errors.Is(err, durable.ErrBadVersion) {
		t.Errorf("a newer version: %v", err)
	}
	if _, err := c.Start(t.Context(), "Orch", "x", nil, durable.StartVersion("2.0")); err != nil {
		t.Errorf("the app's version: %v", err)
	}
}
