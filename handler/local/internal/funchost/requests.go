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

func envelope(data, metadata *newtonsoft.Object) []byte {
	body := append([]byte(nil), `{"Data":`...)
	body = data.Append(body)
	body = append(body, `,"Metadata":`...)
	return append(metadata.Append(body), '}')
}

// timeFormat is .NET's round-trip format without the zeros at the end.
const timeFormat = "2006-01-02T15:04:05.9999999Z"

func timestamp(t time.Time) string { return t.UTC().Format(timeFormat) }

// offsetTime writes a time as a DateTimeOffset, utcTime as Service Bus writes times in UTC.
func offsetTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }

func utcTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") }

// sys is the metadata that every invocation has.
func sys(function string) []byte {
	return fmt.Appendf(nil, `{"MethodName":"%s","UtcNow":"%s","RandGuid":"%s"}`, function, timestamp(time.Now()), uuid.NewString())
}

// TurnRequest returns the request of an orchestrator's turn. It copies the history only once.
func TurnRequest(f config.Function, try Try, turn wire.HostTurn) ([]byte, error) {
	turn.New = slices.Clone(turn.New)
	for i, event := range turn.New {
		turn.New[i] = historyevent.AsStored(event)
	}
	metadata := &newtonsoft.Object{}
	metadata.Set("sys", sys(f.Name))
	try.describe(metadata, f.Name)
	body := append(newtonsoft.AppendString([]byte(`{"Data":{`), f.Trigger().Name), `:"\"`...)
	body, err := turn.Append(body)
	if err != nil {
		return nil, fmt.Errorf("encode the turn: %w", err)
	}
	body = append(body, `\""},"Metadata":`...)
	return append(metadata.Append(body), '}'), nil
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
	data, metadata := &newtonsoft.Object{}, &newtonsoft.Object{}
	text := newtonsoft.Twice(string(value))
	data.Set(name, text)
	metadata.Set("instanceId", newtonsoft.Twice(instance))
	metadata.Set(name, text)
	metadata.Set("data", newtonsoft.Encode(value))
	metadata.Set("sys", sys(f.Name))
	metadata.CopyProperties(value)
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
	metadata := &newtonsoft.Object{}
	metadata.Set("MessageId", newtonsoft.Twice(m.ID))
	metadata.Set("DeliveryCount", newtonsoft.Once(strconv.Itoa(m.DeliveryCount)))
	metadata.Set("SequenceNumber", newtonsoft.Once(strconv.FormatInt(m.SequenceNumber, 10)))
	metadata.Set("EnqueuedTimeUtc", newtonsoft.Once(utcTime(enqueued)))
	metadata.Set("EnqueuedTime", newtonsoft.Once(offsetTime(enqueued)))
	metadata.Set("ExpiresAtUtc", newtonsoft.Once(utcTime(expires)))
	metadata.Set("ExpiresAt", newtonsoft.Once(offsetTime(expires)))
	metadata.Set("ApplicationProperties", []byte("{}"))
	metadata.Set("UserProperties", []byte("{}"))
	metadata.Set("sys", sys(f.Name))
	copyMessage(metadata, f, m.Body)
	return request(f, try, messageValue(f, m.Body), metadata, client)
}

// isBinary says whether a binding has "dataType": "binary": the host then sends its value as bytes, without converting it.
func isBinary(trigger config.Binding) bool { return trigger.DataType() == "binary" }

// textOf returns the text that the host makes of bytes. It reads UTF-8, or UTF-16 if a byte order mark says so, and puts the
// replacement character for anything else.
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
	Token   string // that service requires it; the durable client takes it from the user in the URL
	URL     string // of the host's HTTP port; empty if it has none
}

func (c Client) binding(b config.Binding) []byte {
	hub := b.Property("taskHub")
	if hub == "" {
		hub = c.TaskHub
	}
	o := &newtonsoft.Object{}
	o.Set("taskHubName", newtonsoft.Once(hub))
	for _, name := range []string{"connectionName", "creationUrls", "managementUrls", "baseUrl"} {
		o.Set(name, null)
	}
	o.Set("requiredQueryStringParameters", newtonsoft.Once(""))
	o.Set("rpcBaseUrl", newtonsoft.Once("http://"+c.Token+"@"+c.Address))
	o.Set("httpBaseUrl", newtonsoft.Once(cmp.Or(c.URL, "http://"+c.Address)+httpapi.Path))
	o.Set("useForwardedHost", []byte("false"))
	o.Set("maxGrpcMessageSizeInBytes", []byte(strconv.Itoa(advertisedMessageSize)))
	o.Set("grpcHttpClientTimeout", newtonsoft.Twice("00:01:40"))
	return o.Append(nil)
}

const advertisedMessageSize = 4 << 20 // the host takes larger messages all the same
