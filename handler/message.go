package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/wire"
)

// Message is a message of a queueTrigger or a serviceBusTrigger.
//
// Write "dataType": "binary" into the trigger in function.json: then Body has exactly the bytes that were sent, and all other
// fields are what the host says. Without it Body is the text that the host read, and the properties of a body that is a JSON
// object overwrite the host's values: those are left out here, zero or empty.
type Message struct {
	Body          []byte
	ID            string
	DeliveryCount int       // 1 for the first delivery; 0: not known
	EnqueuedAt    time.Time // UTC; zero: not known

	// Of Service Bus.
	Properties                          map[string]any // the application's, as encoding/json reads them
	Subject, CorrelationID, ContentType string
}

// Queue registers a function with a queueTrigger or a serviceBusTrigger, of a queue or of a topic's subscription. Its error
// has the message delivered again, as often as the queue allows; then it is put aside.
func (a *App) Queue(name string, f func(ctx context.Context, m Message) error) {
	r := &function{name: name, kind: queueKind}
	if f != nil {
		r.trigger = func(ctx context.Context, in *Invocation) error { return f(ctx, in.message()) }
	}
	a.register(r)
}

// JSON makes a function of messages that hold JSON of one type, for App.Queue. A message that does not is an error.
func JSON[T any](f func(ctx context.Context, body T, m Message) error) func(context.Context, Message) error {
	return func(ctx context.Context, m Message) error {
		var body T
		if err := json.Unmarshal(m.Body, &body); err != nil {
			return fmt.Errorf("message %q is no %T: %w", m.ID, body, err)
		}
		return f(ctx, body, m)
	}
}

// message reads the trigger's value and metadata.
func (in *Invocation) message() Message {
	trigger := in.function.Trigger()
	m := Message{Body: in.Bytes(trigger.Name)}
	forged := func(string) bool { return false }
	if trigger.DataType() != "binary" {
		forged = writtenBy(m.Body)
	}
	host := in.metadata(forged)
	m.ID = host.text("MessageId", "Id")
	m.DeliveryCount, _ = strconv.Atoi(host.text("DeliveryCount", "DequeueCount"))
	m.EnqueuedAt = host.time("EnqueuedTimeUtc", "InsertionTime")
	_ = json.Unmarshal(host.raw("ApplicationProperties"), &m.Properties)
	m.Subject, m.CorrelationID, m.ContentType = host.text("Subject"), host.text("CorrelationId"), host.text("ContentType")
	return m
}

// writtenBy says which properties of Metadata may come from a text message and not from the host: those that have the name of one
// of its top-level properties, in any case. The host also reads JSON with single quotes and comments, which we do not, so that a
// text with a brace may have written any of them.
func writtenBy(body []byte) func(name string) bool {
	var properties map[string]json.RawMessage
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(body, &properties); err != nil && !errors.As(err, &wrongType) {
		mayBeObject := strings.Contains(string(body), "{")
		return func(string) bool { return mayBeObject }
	}
	return func(name string) bool {
		for property := range properties {
			if strings.EqualFold(property, name) {
				return true
			}
		}
		return false
	}
}

// metadata is what the host says of a trigger, by lower-case name, without what is forged.
type metadata map[string]json.RawMessage

func (in *Invocation) metadata(forged func(name string) bool) metadata {
	properties, _ := in.request.Properties()
	m := metadata{}
	for name, value := range properties {
		if !forged(name) {
			m[strings.ToLower(name)] = value
		}
	}
	return m
}

// raw returns the value of the first of the properties that is there.
func (m metadata) raw(names ...string) json.RawMessage {
	for _, name := range names {
		if value, ok := m[strings.ToLower(name)]; ok {
			return value
		}
	}
	return nil
}

func (m metadata) text(names ...string) string { return wire.Text(m.raw(names...)) }

// time reads a time in UTC, with or without a zone.
func (m metadata) time(names ...string) time.Time { return hostTime(m.text(names...)) }

func hostTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// checkQueue says what is wrong with a folder of a function that is registered with Queue.
func checkQueue(on config.Function) error {
	if t := on.Trigger(); strings.EqualFold(t.Property("cardinality"), "many") {
		return fmt.Errorf(`%s/function.json has "cardinality": "many": App.Queue takes one message at a time, make it "one", or register the function with app.Trigger(%q, …)`, on.Name, on.Name)
	}
	return nil
}
