package funchost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
)

// IsMessageTrigger says whether a function with this trigger takes the messages of a queue or topic.
func IsMessageTrigger(b config.Binding) bool {
	return b.Is("serviceBusTrigger") || b.Is("queueTrigger")
}

// IsDurableTrigger says whether only the Durable Task extension calls a function with this trigger.
func IsDurableTrigger(b config.Binding) bool {
	return b.Is(config.OrchestrationTrigger) || b.Is(config.ActivityTrigger) || b.Is(config.EntityTrigger)
}

// MessageRequest returns the request of a message for a function with any trigger except the durable ones. The message stands for
// whatever triggers the function: a blob, an event, an HTTP request.
func MessageRequest(f config.Function, try Try, m Message, client Client) []byte {
	switch t := f.Trigger(); {
	case t.Is("serviceBusTrigger"):
		return busRequest(f, try, m, client)
	case t.Is("queueTrigger"):
		return queueRequest(f, try, m, client)
	case t.Is(config.TimerTrigger):
		return TimerRequest(f, try, Timer{}, client)
	case t.Is(config.BlobTrigger):
		return blobRequest(f, try, m, client)
	case t.Is(config.HTTPTrigger):
		return HTTPRequest(f, try, posted(f, m), client)
	}
	value := newtonsoft.Twice(textOf(m.Body))
	if isBinary(f.Trigger()) {
		value = newtonsoft.Once(base64.StdEncoding.EncodeToString(m.Body))
	} else if text := bytes.TrimSpace(m.Body); json.Valid(text) && text[0] != '"' {
		value = newtonsoft.Encode(text) // an event, or a list of them
	}
	metadata := &newtonsoft.Object{}
	metadata.Set("sys", sys(f.Name))
	return request(f, try, value, metadata, client)
}

// request returns the request with that value of the trigger.
func request(f config.Function, try Try, value []byte, metadata *newtonsoft.Object, client Client) []byte {
	data := &newtonsoft.Object{}
	for _, b := range f.Bindings {
		switch {
		case b.Name == f.Trigger().Name:
			data.Set(b.Name, value)
		case b.Is(config.DurableClient):
			data.Set(b.Name, newtonsoft.Twice(string(client.binding(b))))
		}
	}
	try.describe(metadata, f.Name)
	return envelope(data, metadata)
}

// messageValue returns the value of a message, as bytes or as text.
func messageValue(f config.Function, body []byte) []byte {
	if isBinary(f.Trigger()) {
		return newtonsoft.Once(base64.StdEncoding.EncodeToString(body))
	}
	return newtonsoft.Twice(textOf(body))
}

// copyMessage copies the properties of a text message over the metadata.
func copyMessage(to *newtonsoft.Object, f config.Function, body []byte) {
	if isBinary(f.Trigger()) {
		return
	}
	if value, err := newtonsoft.Properties([]byte(textOf(body))); err == nil { // only JSON has properties
		to.CopyProperties(value)
	}
}

func queueRequest(f config.Function, try Try, m Message, client Client) []byte {
	const timeToLive, visibility = 7 * 24 * time.Hour, 10 * time.Minute
	metadata := &newtonsoft.Object{}
	metadata.Set("DequeueCount", newtonsoft.Once(strconv.Itoa(m.DeliveryCount)))
	metadata.Set("ExpirationTime", newtonsoft.Once(offsetTime(m.EnqueuedAt.Add(timeToLive))))
	metadata.Set("Id", newtonsoft.Twice(m.ID))
	metadata.Set("InsertionTime", newtonsoft.Once(offsetTime(m.EnqueuedAt)))
	metadata.Set("NextVisibleTime", newtonsoft.Once(offsetTime(time.Now().Add(visibility))))
	metadata.Set("PopReceipt", newtonsoft.Twice(base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(m.SequenceNumber, 10)))))
	metadata.Set("sys", sys(f.Name))
	copyMessage(metadata, f, m.Body)
	return request(f, try, messageValue(f, m.Body), metadata, client)
}

// Timer says why a timer fires.
type Timer struct {
	IsPastDue bool
	Status    *ScheduleStatus // nil: none is kept
}

// ScheduleStatus is the state that the host keeps of a schedule.
type ScheduleStatus struct{ Last, Next, LastUpdated time.Time }

const scheduleTime = "2006-01-02T15:04:05.9999999+00:00"

// TimerRequest returns the request of a timer.
func TimerRequest(f config.Function, try Try, t Timer, client Client) []byte {
	schedule, status, value, metadata := &newtonsoft.Object{}, &newtonsoft.Object{}, &newtonsoft.Object{}, &newtonsoft.Object{}
	schedule.Set("AdjustForDST", strconv.AppendBool(nil, f.Schedule == nil || !f.Schedule.IsInterval()))
	value.Set("Schedule", schedule.Append(nil))
	value.Set("ScheduleStatus", null)
	if s := t.Status; s != nil {
		status.Set("Last", newtonsoft.Once(s.Last.UTC().Format(scheduleTime)))
		status.Set("Next", newtonsoft.Once(s.Next.UTC().Format(scheduleTime)))
		status.Set("LastUpdated", newtonsoft.Once(s.LastUpdated.UTC().Format(scheduleTime)))
		value.Set("ScheduleStatus", status.Append(nil))
	}
	value.Set("IsPastDue", strconv.AppendBool(nil, t.IsPastDue))
	metadata.Set("sys", sys(f.Name))
	return request(f, try, value.Append(nil), metadata, client)
}

// blobRequest returns the request of a blob, whose container and name are the message's id.
func blobRequest(f config.Function, try Try, m Message, client Client) []byte {
	container, match := f.Trigger().BlobPath()
	name := strings.TrimPrefix(m.ID, container+"/")
	properties, metadata := &newtonsoft.Object{}, &newtonsoft.Object{}
	properties.Set("LastModified", newtonsoft.Once(offsetTime(m.EnqueuedAt)))
	properties.Set("Metadata", []byte("{}"))
	properties.Set("ContentLength", number(len(m.Body)))
	properties.Set("ContentType", newtonsoft.Once("application/octet-stream"))
	properties.Set("ETag", []byte("{}"))
	metadata.Set("Uri", newtonsoft.Twice("http://127.0.0.1:10000/devstoreaccount1/"+container+"/"+escapePath(name)))
	metadata.Set("Properties", properties.Append(nil))
	metadata.Set("Metadata", []byte("{}"))
	params, _ := match(name)
	for name, value := range params {
		metadata.Set(name, newtonsoft.Twice(value))
	}
	metadata.Set("sys", sys(f.Name))
	return request(f, try, newtonsoft.Once(base64.StdEncoding.EncodeToString(m.Body)), metadata, client)
}
