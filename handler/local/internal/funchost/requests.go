package funchost

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/wire"
)

// The bodies of the invocations that the host sends: {"Data":{…},"Metadata":{…}}.

func envelope(data, metadata *object) []byte {
	body := append([]byte(nil), `{"Data":`...)
	body = data.append(body)
	body = append(body, `,"Metadata":`...)
	return append(metadata.append(body), '}')
}

// timeFormat is .NET's round-trip format without the zeros at the end.
const timeFormat = "2006-01-02T15:04:05.9999999Z"

func timestamp(t time.Time) string { return t.UTC().Format(timeFormat) }

// offsetTime is how a DateTimeOffset is written, utcTime how Service Bus' times in UTC are.
func offsetTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

func utcTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") }

// sys is the metadata that every invocation has.
func sys(function string) []byte {
	return fmt.Appendf(nil, `{"MethodName":"%s","UtcNow":"%s","RandGuid":"%s"}`, function, timestamp(time.Now()), uuid.NewString())
}

// TurnRequest returns the request of an orchestrator's turn. The history is copied into it once.
func TurnRequest(f config.Function, try Try, turn wire.HostTurn) ([]byte, error) {
	turn.New = slices.Clone(turn.New)
	for i, event := range turn.New {
		turn.New[i] = historyevent.AsStored(event)
	}
	metadata := &object{}
	metadata.set("sys", sys(f.Name))
	try.describe(metadata, f.Name)
	body := append(appendQuoted([]byte(`{"Data":{`), f.Trigger().Name), `:"\"`...)
	body, err := turn.Append(body)
	if err != nil {
		return nil, fmt.Errorf("encode the turn: %w", err)
	}
	body = append(body, `\""},"Metadata":`...)
	return append(metadata.append(body), '}'), nil
}

// ActivityRequest returns the request of an activity. The error is an [*Exception]: an input that the extension cannot read
// fails the invocation before the handler is called.
func ActivityRequest(f config.Function, try Try, instance, input string) ([]byte, error) {
	if input == "" {
		input = "null"
	}
	value, err := newtonsoft.Input([]byte(input))
	if err != nil {
		return nil, Failed(f.Name, refusedValue(fmt.Errorf("the input of activity %s: %w", f.Name, err)))
	}
	name := f.Trigger().Name
	data, metadata := &object{}, &object{}
	text := twice(string(value))
	data.set(name, text)
	metadata.set("instanceId", twice(instance))
	metadata.set(name, text)
	metadata.set("data", encodeJSON(value))
	metadata.set("sys", sys(f.Name))
	metadata.copyProperties(value)
	try.describe(metadata, f.Name)
	return envelope(data, metadata), nil
}

// Message is a Service Bus message.
type Message struct {
	ID            string
	Body          []byte
	DeliveryCount int
	EnqueuedAt    time.Time

	SequenceNumber int64
}

// busRequest returns the request of a Service Bus message.
func busRequest(f config.Function, try Try, m Message, client Client) []byte {
	enqueued := m.EnqueuedAt
	expires := enqueued.Add(messageTimeToLive)
	metadata := &object{}
	metadata.set("MessageId", twice(m.ID))
	metadata.set("DeliveryCount", once(strconv.Itoa(m.DeliveryCount)))
	metadata.set("SequenceNumber", once(strconv.FormatInt(m.SequenceNumber, 10)))
	metadata.set("EnqueuedTimeUtc", once(utcTime(enqueued)))
	metadata.set("EnqueuedTime", once(offsetTime(enqueued)))
	metadata.set("ExpiresAtUtc", once(utcTime(expires)))
	metadata.set("ExpiresAt", once(offsetTime(expires)))
	metadata.set("ApplicationProperties", []byte("{}"))
	metadata.set("UserProperties", []byte("{}"))
	metadata.set("sys", sys(f.Name))
	metadata.copyMessage(f, m.Body)
	return request(f, try, messageValue(f, m.Body), metadata, client)
}

// isBinary says that a binding has "dataType": "binary": its value travels as bytes, and is not converted.
func isBinary(trigger config.Binding) bool { return trigger.DataType() == "binary" }

// textOf is the text that the host makes of bytes: UTF-8, unless a byte order mark says UTF-16, and the replacement
// character for whatever is neither.
func textOf(body []byte) string {
	text, _, err := transform.Bytes(unicode.BOMOverride(unicode.UTF8.NewDecoder()), body)
	if err != nil {
		return string(body)
	}
	return string(text)
}

// messageTimeToLive is a Service Bus queue's default.
const messageTimeToLive = 14 * 24 * time.Hour

// Client is what the host tells a durableClient binding.
type Client struct {
	TaskHub string // unless the binding names another
	Address string // host:port of the durable client's service
	Token   string // which that service asks for; the durable client takes it from the URL's user
	URL     string // of the host's HTTP port; empty if it has none
}

func (c Client) binding(b config.Binding) []byte {
	hub := b.Property("taskHub")
	if hub == "" {
		hub = c.TaskHub
	}
	o := &object{}
	o.set("taskHubName", once(hub))
	for _, name := range []string{"connectionName", "creationUrls", "managementUrls", "baseUrl"} {
		o.set(name, null)
	}
	o.set("requiredQueryStringParameters", once(""))
	o.set("rpcBaseUrl", once("http://"+c.Token+"@"+c.Address))
	o.set("httpBaseUrl", once(cmp.Or(c.URL, "http://"+c.Address)+httpapi.Path))
	o.set("useForwardedHost", []byte("false"))
	o.set("maxGrpcMessageSizeInBytes", []byte(strconv.Itoa(advertisedMessageSize)))
	o.set("grpcHttpClientTimeout", twice("00:01:40"))
	return o.append(nil)
}

const advertisedMessageSize = 4 << 20 // the host takes larger messages all the same
