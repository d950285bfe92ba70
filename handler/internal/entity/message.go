package entity

import (
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"example.com/durablefunctions/handler/internal/plainjson"
)

// Names of the events that an entity gets. A request with a delay has its time after the name.
const (
	RequestEvent = "op"
	ReleaseEvent = "release"
)

// Message is what an orchestration sends to an entity: an operation that it calls or signals, or a request for a lock on several
// entities. Host and handler exchange it as JSON.
type Message struct {
	Operation       *string    `json:"op"` // nil: a request for a lock
	ID              string     `json:"id"`
	Parent          string     `json:"parent,omitempty"`
	ParentExecution string     `json:"parentExecution,omitempty"`
	Signal          bool       `json:"signal,omitempty"`
	Input           *string    `json:"input,omitempty"` // JSON
	LockSet         []LockedID `json:"lockset,omitempty"`
	Position        *int       `json:"pos,omitempty"` // in the lock set, of the entity that has the message
	Timestamp       string     `json:"timestamp,omitempty"`
	Predecessor     string     `json:"predecessor,omitempty"` // the time stamp of the sender's message before this one
	Due             string     `json:"due,omitempty"`
}

// LockedID is an entity's id in a lock set.
type LockedID struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Release gives a lock back.
type Release struct {
	Parent string `json:"parent"`
	ID     string `json:"id"`
}

// Encode returns the message as JSON.
func (m Message) Encode() string { return encode(m) }

// Encode returns the release as JSON.
func (r Release) Encode() string { return encode(r) }

// Response is an entity's answer to a call: an event whose name is the call's id.
type Response struct {
	Result         *string          `json:"result"` // JSON; plain text if the dispatch failed
	ExceptionType  string           `json:"exceptionType,omitempty"`
	FailureDetails *ResponseFailure `json:"failureDetails,omitempty"`
}

// ResponseFailure says why a call failed. The host writes all of its fields.
type ResponseFailure struct {
	ErrorType      string
	ErrorMessage   string
	StackTrace     *string
	InnerFailure   *ResponseFailure
	IsNonRetriable bool
	Properties     map[string]any
}

// Encode returns the response as JSON.
func (r Response) Encode() string { return encode(r) }

// Granted is the result of a request for a lock.
const Granted = "Lock Acquisition Completed"

func encode(v any) string {
	text, _ := plainjson.Marshal(v) // texts, numbers and times can always be encoded
	return string(text)
}

// TimeFormat is .NET's round-trip format.
const TimeFormat = "2006-01-02T15:04:05.0000000Z"

// Tick is the smallest difference between two of .NET's times.
const Tick = 100 * time.Nanosecond

// Signal is the action by which an orchestration signals an entity at a later time, which durabletask-go v0.6.0 does not
// know: field 8 of an OrchestratorAction. The host does not answer it.
type Signal struct {
	ID          string // a GUID
	Operation   string
	Input       []byte // JSON, nil if there is none
	Target      string // the entity's instance id
	ScheduledAt time.Time

	// Parent and ParentExecution are set for a call, which is an action too. The host loses a call without a delay, so this
	// package makes none.
	Parent, ParentExecution string
}

const actionSendEntityMessage = 8

// Encode returns the action's field.
func (s Signal) Encode() []byte {
	m := appendString(appendString(nil, 1, s.ID), 2, s.Operation)
	m = appendStringValue(appendTime(m, 3, s.ScheduledAt), 4, s.Input)
	m = appendStringValue(m, 5, []byte(s.Target))
	return appendMessage(nil, actionSendEntityMessage, appendMessage(nil, 1, m))
}

// DecodeSignal finds the signal in the unknown fields of an action.
func DecodeSignal(unknown []byte) (s Signal, ok bool) {
	err := eachField(unknown, func(number protowire.Number, message []byte) error {
		if number != actionSendEntityMessage {
			return nil
		}
		return eachField(message, func(kind protowire.Number, content []byte) error {
			if kind > 2 {
				return nil
			}
			ok = true
			return eachField(content, func(number protowire.Number, value []byte) error {
				if kind == 2 && number > 4 { // a call has its parent before the target
					number += 4
				}
				return s.decode(number, value)
			})
		})
	})
	return s, ok && err == nil
}

func (s *Signal) decode(number protowire.Number, value []byte) (err error) {
	switch number {
	case 1:
		s.ID = string(value)
	case 2:
		s.Operation = string(value)
	case 3:
		s.ScheduledAt = decodeTime(value)
	case 4:
		s.Input, err = stringValue(value)
	case 5, 9, 10, 11:
		var text []byte
		text, err = stringValue(value)
		*map[protowire.Number]*string{5: &s.Target, 9: &s.Parent, 10: &s.ParentExecution, 11: &s.Target}[number] = string(text)
	}
	return err
}

// Message returns the message that the entity gets.
func (s Signal) Message() Message {
	m := Message{Operation: &s.Operation, ID: s.ID, Signal: s.Parent == "", Parent: s.Parent, ParentExecution: s.ParentExecution}
	if s.Input != nil {
		input := string(s.Input)
		m.Input = &input
	}
	if !s.ScheduledAt.IsZero() {
		m.Due = s.ScheduledAt.UTC().Format(TimeFormat)
	}
	return m
}

// Response returns the response to a call with this outcome.
func (o Outcome) Response() Response {
	if o.Failure != nil {
		return Response{FailureDetails: o.Failure.Response()}
	}
	if o.Result == nil {
		return Response{}
	}
	result := string(o.Result)
	return Response{Result: &result}
}

// Response returns the failure in the form of a response.
func (f *Failure) Response() *ResponseFailure {
	r := &ResponseFailure{ErrorType: f.Type, ErrorMessage: f.Message, Properties: map[string]any{}}
	if f.StackTrace != "" {
		r.StackTrace = &f.StackTrace
	}
	if f.Inner != nil {
		r.InnerFailure = f.Inner.Response()
	}
	return r
}

// NotDispatched returns the response to a call that no code could answer.
func NotDispatched(details *ResponseFailure) Response {
	return Response{Result: &details.ErrorMessage, ExceptionType: "entity dispatch failed", FailureDetails: details}
}

// NoFunction returns the failure of a call to an entity whose function does not exist.
func NoFunction(name string, known []string) *ResponseFailure {
	quoted := make([]string, len(known))
	for i, k := range known {
		quoted[i] = "'" + k + "'"
	}
	return &ResponseFailure{
		ErrorType: "EntityFunctionNotFound", IsNonRetriable: true,
		ErrorMessage: "The function '" + name + "' doesn't exist, is disabled, or is not an entity function. " +
			"Additional info: The following are the known entity functions: " + strings.Join(quoted, ", ") + ".",
	}
}
