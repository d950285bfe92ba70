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

// IsMessageTrigger says whether such a function takes the messages of a queue.
func IsMessageTrigger(b config.Binding) bool {
	return b.Is("serviceBusTrigger") || b.Is("queueTrigger")
}

// IsDurableTrigger says that such a function is called by the Durable Task extension only.
func IsDurableTrigger(b config.Binding) bool {
	return b.Is(config.OrchestrationTrigger) || b.Is(config.ActivityTrigger) || b.Is(config.EntityTrigger)
}

// MessageRequest returns the request of a message for a function with any trigger but the durable ones. The message stands for
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
	value := twice(textOf(m.Body))
	if isBinary(f.Trigger()) {
		value = once(base64.StdEncoding.EncodeToString(m.Body))
	} else if text := bytes.TrimSpace(m.Body); json.Valid(text) && text[0] != '"' {
		value = encodeJSON(text) // an event, or a list of them
	}
	metadata := &object{}
	metadata.set("sys", sys(f.Name))
	return request(f, try, value, metadata, client)
}

// request returns the request with that value of the trigger.
func request(f config.Function, try Try, value []byte, metadata *object, client Client) []byte {
	data := &object{}
	for _, b := range f.Bindings {
		switch {
		case b.Name == f.Trigger().Name:
			data.set(b.Name, value)
		case b.Is(config.DurableClient):
			data.set(b.Name, twice(string(client.binding(b))))
		}
	}
	try.describe(metadata, f.Name)
	return envelope(data, metadata)
}

// messageValue is the value of a message, as bytes or as text.
func messageValue(f config.Function, body []byte) []byte {
	if isBinary(f.Trigger()) {
		return once(base64.StdEncoding.EncodeToString(body))
	}
	return twice(textOf(body))
}

// copyMessage copies the properties of a text message over the metadata.
func (o *object) copyMessage(f config.Function, body []byte) {
	if isBinary(f.Trigger()) {
		return
	}
	if value, err := newtonsoft.Properties([]byte(textOf(body))); err == nil { // only JSON has properties
		o.copyProperties(value)
	}
}

func queueRequest(f config.Function, try Try, m Message, client Client) []byte {
	const timeToLive, visibility = 7 * 24 * time.Hour, 10 * time.Minute
	metadata := &object{}
	metadata.set("DequeueCount", once(strconv.Itoa(m.DeliveryCount)))
	metadata.set("ExpirationTime", once(offsetTime(m.EnqueuedAt.Add(timeToLive))))
	metadata.set("Id", twice(m.ID))
	metadata.set("InsertionTime", once(offsetTime(m.EnqueuedAt)))
	metadata.set("NextVisibleTime", once(offsetTime(time.Now().Add(visibility))))
	metadata.set("PopReceipt", twice(base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(m.SequenceNumber, 10)))))
	metadata.set("sys", sys(f.Name))
	metadata.copyMessage(f, m.Body)
	return request(f, try, messageValue(f, m.Body), metadata, client)
}

// Timer is why a timer fires.
type Timer struct {
	IsPastDue bool
	Status    *ScheduleStatus // nil: none is kept
}

// ScheduleStatus is the state that the host keeps of a schedule.
type ScheduleStatus struct{ Last, Next, LastUpdated time.Time }

const scheduleTime = "2006-01-02T15:04:05.9999999+00:00"

// TimerRequest returns the request of a timer.
func TimerRequest(f config.Function, try Try, t Timer, client Client) []byte {
	schedule, status, value, metadata := &object{}, &object{}, &object{}, &object{}
	schedule.set("AdjustForDST", strconv.AppendBool(nil, f.Schedule == nil || !f.Schedule.IsInterval()))
	value.set("Schedule", schedule.append(nil))
	value.set("ScheduleStatus", null)
	if s := t.Status; s != nil {
		status.set("Last", once(s.Last.UTC().Format(scheduleTime)))
		status.set("Next", once(s.Next.UTC().Format(scheduleTime)))
		status.set("LastUpdated", once(s.LastUpdated.UTC().Format(scheduleTime)))
		value.set("ScheduleStatus", status.append(nil))
	}
	value.set("IsPastDue", strconv.AppendBool(nil, t.IsPastDue))
	metadata.set("sys", sys(f.Name))
	return request(f, try, value.append(nil), metadata, client)
}

// blobRequest returns the request of a blob, whose container and name are the message's id.
func blobRequest(f config.Function, try Try, m Message, client Client) []byte {
	container, match := f.Trigger().BlobPath()
	name := strings.TrimPrefix(m.ID, container+"/")
	properties, metadata := &object{}, &object{}
	properties.set("LastModified", once(offsetTime(m.EnqueuedAt)))
	properties.set("Metadata", []byte("{}"))
	properties.set("ContentLength", number(len(m.Body)))
	properties.set("ContentType", once("application/octet-stream"))
	properties.set("ETag", []byte("{}"))
	metadata.set("Uri", twice("http://127.0.0.1:10000/devstoreaccount1/"+container+"/"+escapePath(name)))
	metadata.set("Properties", properties.append(nil))
	metadata.set("Metadata", []byte("{}"))
	params, _ := match(name)
	for name, value := range params {
		metadata.set(name, twice(value))
	}
	metadata.set("sys", sys(f.Name))
	return request(f, try, once(base64.StdEncoding.EncodeToString(m.Body)), metadata, client)
}
