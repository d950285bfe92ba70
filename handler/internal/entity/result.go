package entity

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// Result is the answer to a batch. The outcomes belong to the first operations of the batch, in order. The host asks for the
// others again at once. The state replaces the entity's state; nil deletes the entity.
type Result struct {
	Outcomes []Outcome
	Actions  []Action
	State    []byte
	Failure  *Failure // of the whole batch; this package makes none
	Refused  bool     // nothing was done: the host asks again after 2 seconds, 4, 8 and so on
}

// Outcome is how an operation ended: with a result (JSON, nil for none) or with a failure.
type Outcome struct {
	Result     []byte
	Failure    *Failure
	Start, End time.Time
}

// Failure says why an operation failed.
type Failure struct {
	Type, Message string
	StackTrace    string
	Inner         *Failure
}

// Types of the failures that Run makes.
const (
	FailedType        = "EntityOperationFailed"           // the operation returned an error
	PanicType         = "EntityOperationPanic"            // it panicked
	DeadlineType      = "EntityOperationDeadlineExceeded" // it ran past the deadline
	NotFoundType      = "EntityOperationNotFound"         // the entity has no operation of that name
	NotUnderstoodType = "EntityOperationNotUnderstood"    // its input or the entity's state has another form
)

// Action is what an operation makes the host do: send a signal to an entity, or start an orchestration.
type Action struct {
	Starts      bool
	InstanceID  string // the receiver's, or the new orchestration's
	Name        string // of the operation, or the orchestrator
	Input       []byte // JSON, nil if there is none
	ScheduledAt time.Time

	ID      int32             // in a decoded answer
	Version string            // of the new orchestration
	Tags    map[string]string // of the new orchestration
}

// Encode returns the answer as base64 of a protobuf EntityBatchResult.
func (r *Result) Encode() string {
	var m []byte
	for _, o := range r.Outcomes {
		m = appendMessage(m, 1, o.encode())
	}
	for i, a := range r.Actions {
		m = appendMessage(m, 2, a.encode(i))
	}
	m = appendStringValue(m, 3, r.State)
	if r.Failure != nil {
		m = appendMessage(m, 4, r.Failure.encode())
	}
	if r.Refused {
		m = protowire.AppendVarint(protowire.AppendTag(m, 7, protowire.VarintType), 1)
	}
	return base64.StdEncoding.EncodeToString(m)
}

func (o Outcome) encode() []byte {
	kind, content := protowire.Number(1), appendStringValue(nil, 1, o.Result)
	if o.Failure != nil {
		kind, content = 2, appendMessage(nil, 1, o.Failure.encode())
	}
	content = appendTime(content, 2, o.Start)
	return appendMessage(nil, kind, appendTime(content, 3, o.End))
}

func (f *Failure) encode() []byte {
	m := appendString(nil, 1, strings.ToValidUTF8(f.Type, "\uFFFD"))
	m = appendString(m, 2, strings.ToValidUTF8(f.Message, "\uFFFD"))
	if f.StackTrace != "" {
		m = appendStringValue(m, 3, []byte(strings.ToValidUTF8(f.StackTrace, "\uFFFD")))
	}
	if f.Inner != nil {
		m = appendMessage(m, 4, f.Inner.encode())
	}
	return m
}

func (a Action) encode(id int) []byte {
	var m []byte
	if id > 0 {
		m = protowire.AppendVarint(protowire.AppendTag(m, 1, protowire.VarintType), uint64(id))
	}
	content := appendString(appendString(nil, 1, a.InstanceID), 2, a.Name)
	if a.Starts {
		if a.Version != "" {
			content = appendStringValue(content, 3, []byte(a.Version))
		}
		content = appendTime(appendStringValue(content, 4, a.Input), 5, a.ScheduledAt)
		return appendMessage(m, 3, historyevent.AppendTags(content, startTags, a.Tags))
	}
	content = appendTime(appendStringValue(content, 3, a.Input), 4, a.ScheduledAt)
	return appendMessage(m, 2, content)
}

func appendTime(m []byte, field protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return m
	}
	stamp := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(t.Unix()))
	if nanos := t.Nanosecond(); nanos > 0 {
		stamp = protowire.AppendVarint(protowire.AppendTag(stamp, 2, protowire.VarintType), uint64(nanos))
	}
	return appendMessage(m, field, stamp)
}

// DecodeResult is the reverse of Encode, for hosts.
func DecodeResult(text string) (*Result, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("it is not base64: %w", err)
	}
	r := &Result{Refused: varint(raw, 7) != 0}
	err = eachField(raw, func(number protowire.Number, value []byte) (err error) {
		switch number {
		case 1:
			var o Outcome
			o, err = decodeOutcome(value)
			r.Outcomes = append(r.Outcomes, o)
		case 2:
			var a Action
			a, err = decodeAction(value)
			r.Actions = append(r.Actions, a)
		case 3:
			r.State, err = stringValue(value)
		case 4:
			r.Failure, err = decodeFailure(value, 0)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("it is no EntityBatchResult: %w", err)
	}
	return r, nil
}

func decodeOutcome(raw []byte) (o Outcome, err error) {
	err = eachField(raw, func(kind protowire.Number, content []byte) error {
		if kind == 2 {
			o.Failure = &Failure{}
		}
		return eachField(content, func(number protowire.Number, value []byte) (err error) {
			switch {
			case number == 1 && kind == 1:
				o.Result, err = stringValue(value)
			case number == 1 && kind == 2:
				o.Failure, err = decodeFailure(value, 0)
			case number == 2:
				o.Start = decodeTime(value)
			case number == 3:
				o.End = decodeTime(value)
			}
			return err
		})
	})
	return o, err
}

// maxFailures is how deep failures may be nested.
const maxFailures = 100

func decodeFailure(raw []byte, depth int) (*Failure, error) {
	if depth > maxFailures {
		return nil, fmt.Errorf("a failure has more than %d inner ones", maxFailures)
	}
	f := &Failure{}
	err := eachField(raw, func(number protowire.Number, value []byte) (err error) {
		switch number {
		case 1:
			f.Type = string(value)
		case 2:
			f.Message = string(value)
		case 3:
			var text []byte
			text, err = stringValue(value)
			f.StackTrace = string(text)
		case 4:
			f.Inner, err = decodeFailure(value, depth+1)
		}
		return err
	})
	return f, err
}

// startTags is the field number of the tags in StartNewOrchestrationAction.
const startTags = 8

func decodeAction(raw []byte) (a Action, err error) {
	a.ID = int32(varint(raw, 1))
	err = eachField(raw, func(kind protowire.Number, content []byte) error {
		a.Starts = kind == 3
		if a.Starts {
			a.Tags = historyevent.TagsIn(content, startTags)
		}
		input, at := protowire.Number(3), protowire.Number(4)
		if a.Starts {
			input, at = 4, 5
		}
		return eachField(content, func(number protowire.Number, value []byte) (err error) {
			switch number {
			case 1:
				a.InstanceID = string(value)
			case 2:
				a.Name = string(value)
			case input:
				a.Input, err = stringValue(value)
			case 3: // of a start
				var version []byte
				version, err = stringValue(value)
				a.Version = string(version)
			case at:
				a.ScheduledAt = decodeTime(value)
			}
			return err
		})
	})
	return a, err
}

func decodeTime(raw []byte) time.Time {
	return time.Unix(int64(varint(raw, 1)), int64(varint(raw, 2))).UTC()
}
