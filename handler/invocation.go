package handler

import (
	"context"
	"fmt"
	"strings"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/invocation"
	"example.com/durablefunctions/handler/internal/wire"
)

// Invocation is what the host sends a trigger function.
type Invocation struct {
	Function string // the folder's name
	ID       string // the host's id of this invocation

	function   config.Function
	request    wire.Request
	maxPayload int
	versions   durable.Versions
}

// Text returns the text of a trigger's or input binding's value: a string as it is, anything else as JSON. It is empty
// if there is no such binding.
func (in *Invocation) Text(binding string) string { return wire.Text(in.request.Data[binding]) }

// Bytes returns a trigger's or input binding's value as bytes: those of a blob, and those of a message whose trigger has
// "dataType": "binary" in function.json, exactly as they were sent. The host sends other values as text; Bytes returns
// that text in UTF-8. It is nil if there is no such binding, or no such blob.
func (in *Invocation) Bytes(binding string) []byte {
	raw, ok := in.request.Data[binding]
	if !ok {
		return nil
	}
	for _, b := range in.function.Bindings {
		if isBlob := b.Is("blob") || b.Is("blobTrigger"); b.Name == binding && (isBlob || b.DataType() == "binary") {
			return wire.Bytes(raw, b.Is("blob"))
		}
	}
	return []byte(wire.Text(raw))
}

// Metadata returns the text of a property of the trigger, such as MessageId, and whether it is there. Its case does not
// matter.
//
// Do not trust it: when a message is a JSON object, the host lets the message's properties overwrite its own. So the sender of
// the message may have written this.
func (in *Invocation) Metadata(name string) (string, bool) {
	properties, _ := in.request.Properties()
	if raw, ok := properties[name]; ok {
		return wire.Text(raw), true
	}
	for key, raw := range properties {
		if strings.EqualFold(key, name) {
			return wire.Text(raw), true
		}
	}
	return "", false
}

// DurableClient returns the client of a durableClient binding.
func (in *Invocation) DurableClient(binding string) (*durable.Client, error) {
	raw, ok := in.request.Data[binding]
	if !ok {
		return nil, fmt.Errorf("function %s has no binding %q: declare a durableClient in its function.json", in.Function, binding)
	}
	client, err := durable.NewClient(wire.Text(raw), in.maxPayload)
	if err == nil {
		client.SetVersions(in.versions)
	}
	return client, err
}

// client makes the durable client of durable.FromContext; nil without a binding for it.
func (in *Invocation) client() func() (any, error) {
	for _, b := range in.function.Bindings {
		if b.Is(config.DurableClient) {
			return func() (any, error) { return in.DurableClient(b.Name) }
		}
	}
	return nil
}

// SetOutput sets the value of an output binding of the function (any but an orchestrator) that ctx belongs to. $return is a
// binding's name like any other, but for activities, whose result it is. The host sends nothing for a value that is null,
// one message per element for an array, and takes a string that happens to be valid base64 for bytes: send an object. For
// orchestrators there is durable.SetOutput.
func SetOutput(ctx context.Context, binding string, v any) { invocation.Of(ctx).SetOutput(binding, v) }

// OutputName is the name of an output binding that takes values of one type:
//
//	const Orders = handler.OutputName[Order]("orders")
//
//	Orders.Set(ctx, Order{ID: 7})
type OutputName[T any] string

// Set sets the output as SetOutput does.
func (o OutputName[T]) Set(ctx context.Context, v T) { SetOutput(ctx, string(o), v) }

// Go runs f in a goroutine of the function (any but an orchestrator) that ctx belongs to. The invocation ends when f has, and
// fails with its error if the function itself returns none. A panic in f fails the invocation: in a goroutine that is
// started otherwise it ends the process, and with it every other invocation. Call it before the function returns.
func Go(ctx context.Context, f func() error) { invocation.Of(ctx).Go(f) }
