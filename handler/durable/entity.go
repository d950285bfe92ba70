package durable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/plainjson"
	"example.com/durablefunctions/handler/internal/wire"
)

// EntityName is the name of an entity's function, its folder, with the type of the entity's state. The state is kept as
// JSON.
type EntityName[State any] string

// EntityID names one entity: its function's name in lower case, as the host wants it, and its key.
type EntityID = entity.ID

// ID is the id of the entity with that key. The key's case matters.
func (name EntityName[State]) ID(key string) EntityID { return entity.NewID(string(name), key) }

// Operation is an operation of an entity, with the types of the entity's state, of its input and of its result.
type Operation[State, In, Out any] struct {
	entity EntityName[State]
	name   string
	run    func(*State, context.Context, In) (Out, error)
}

// NewOperation makes a function an operation. A method of the state has the right form:
//
//	type counter struct{ Value int }
//
//	func (c *counter) Add(_ context.Context, n int) (int, error) {
//		c.Value += n
//		return c.Value, nil
//	}
//
//	const Counter = durable.EntityName[counter]("Counter")
//
//	var Add = durable.NewOperation(Counter, "Add", (*counter).Add)
//
// It is run on the state, the zero State for an entity that does not exist yet, which then does. The host runs an entity's
// operations one after the other. When the function returns an error or panics, nothing of what it did to the state, and
// nothing that it wanted sent or started, comes about. The name's case does not matter. An absent input is the zero In.
func NewOperation[State, In, Out any](name EntityName[State], operation string, f func(*State, context.Context, In) (Out, error)) Operation[State, In, Out] {
	return Operation[State, In, Out]{name, operation, f}
}

// EntityClass is the code of an entity, as the handler registers it.
type EntityClass = entity.Class

// EntityOperation is an Operation of any types, for Entity.
type EntityOperation interface {
	addTo(*EntityClass) error
}

// Entity makes operations of one entity its code. What is wrong with them is told when the handler starts.
func Entity(operations ...EntityOperation) *EntityClass {
	c := &EntityClass{Operations: map[string]entity.Function{}}
	if len(operations) == 0 {
		c.Problem = errors.New("the entity has no operations")
	}
	for _, o := range operations {
		if err := o.addTo(c); err != nil {
			c.Problem = err
		}
	}
	return c
}

func (o Operation[State, In, Out]) addTo(c *EntityClass) error {
	key := strings.ToLower(o.name)
	switch {
	case o.name == "" || o.entity == "" || o.run == nil:
		return fmt.Errorf("operation %q of entity %q lacks its name, its entity or its code", o.name, o.entity)
	case c.Name != "" && !strings.EqualFold(c.Name, string(o.entity)):
		return fmt.Errorf("operation %s is of entity %s, others are of %s", o.name, o.entity, c.Name)
	case c.Operations[key] != nil:
		return fmt.Errorf("entity %s has two operations %s", o.entity, o.name)
	}
	c.Name, c.Operations[key] = string(o.entity), o.operate
	return nil
}

func (o Operation[State, In, Out]) operate(ctx context.Context, state, input []byte) (result, after []byte, err error) {
	var s State
	var in In
	if err := decodeEntity(state, &s); err != nil {
		return nil, nil, fmt.Errorf("the state of entity %s: %w", o.entity, err)
	}
	if err := decodeEntity(input, &in); err != nil {
		return nil, nil, fmt.Errorf("the input of operation %s: %w", o.name, err)
	}
	out, err := o.run(&s, ctx, in)
	if err != nil {
		return nil, nil, err
	}
	if result, err = plainjson.Marshal(out); err != nil {
		return nil, nil, fmt.Errorf("the result of operation %s cannot be JSON: %w", o.name, err)
	}
	if after, err = plainjson.Marshal(s); err != nil {
		return nil, nil, fmt.Errorf("the state of entity %s cannot be JSON: %w", o.entity, err)
	}
	return result, after, nil
}

// decodeEntity reads JSON that may be absent.
func decodeEntity(text []byte, v any) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &entity.Error{Type: entity.NotUnderstoodType, Err: err}
	}
	return nil
}

// CurrentEntity is the entity whose operation is running.
type CurrentEntity struct {
	scope *entity.Scope
}

// Current returns the entity whose operation ctx belongs to. Outside of one, in a unit test of an operation, what it is
// told goes nowhere.
func Current(ctx context.Context) CurrentEntity { return CurrentEntity{entity.Current(ctx)} }

// ID is the entity's id.
func (c CurrentEntity) ID() EntityID {
	id, _ := entity.ParseID(c.scope.ID)
	return id
}

// Delete deletes the entity with its state when the operation has ended well.
func (c CurrentEntity) Delete() { c.scope.Delete() }

// Start starts an orchestration when the operation has ended well, and returns its id: that which is given, or one that
// is the same if the host has the operation run again. A finished or running instance of that id is replaced.
func (c CurrentEntity) Start(orchestrator, id string, input any) (string, error) {
	if id == "" {
		id = c.scope.NewInstanceID()
	}
	if err := CheckID(id); err != nil {
		return "", err
	}
	text, err := plainjson.Marshal(input)
	if err != nil {
		return "", fmt.Errorf("starting %s: the input cannot be JSON: %w", orchestrator, err)
	}
	c.scope.Add(entity.Action{Starts: true, InstanceID: id, Name: orchestrator, Input: text})
	return id, nil
}

func (c CurrentEntity) sendSignal(_ context.Context, s signal) error {
	c.scope.Add(entity.Action{InstanceID: s.to.String(), Name: s.operation, Input: s.input, ScheduledAt: s.at})
	return nil
}

// Sender is what sends signals beside an orchestrator: a Client, and the CurrentEntity.
type Sender interface {
	sendSignal(context.Context, signal) error
}

// signal is an operation that nobody waits for.
type signal struct {
	to        EntityID
	operation string
	input     []byte
	at        time.Time // zero: at once
}

// Send signals the entity with that key from a trigger function, by its Client, or from another entity, by Current(ctx):
// the operation is run, and nobody hears of its result. An entity that does not exist comes into being; a function that
// does not exist is never told. Signals from an entity go out when its operation has ended well.
func (o Operation[State, In, Out]) Send(ctx context.Context, from Sender, key string, in In, options ...SignalOption) error {
	to, input, err := o.request(key, in)
	if err != nil {
		return err
	}
	return from.sendSignal(ctx, signal{to, o.name, input, applySignal(options).at})
}

// request checks the entity's id and makes JSON of the input.
func (o Operation[State, In, Out]) request(key string, in In) (EntityID, []byte, error) {
	id := o.entity.ID(key)
	if err := checkEntityID(id); err != nil {
		return id, nil, err
	}
	input, err := plainjson.Marshal(in)
	if err != nil {
		return id, nil, fmt.Errorf("the input of operation %s of %s cannot be JSON: %w", o.name, id, err)
	}
	return id, input, nil
}

// checkEntityID says whether the id is one that every storage provider takes, as CheckID does for instances.
func checkEntityID(id EntityID) error {
	if id.Name == "" || strings.ContainsRune(id.Name, '@') {
		return fmt.Errorf("%w: %q is no name of an entity", ErrBadID, id.Name)
	}
	if err := wire.CheckInstanceID(id.Key); err != nil {
		return fmt.Errorf("%w: the key of an entity: %w", ErrBadID, err)
	}
	if err := wire.CheckInstanceID(id.String()[1:]); err != nil {
		return fmt.Errorf("%w: the entity %w", ErrBadID, err)
	}
	return nil
}

// SignalOption changes how a signal is sent.
type SignalOption func(*signalOptions)

type signalOptions struct{ at time.Time }

// At delivers the signal at that time, not at once. It may be overtaken by signals and calls that are sent later.
func At(t time.Time) SignalOption { return func(o *signalOptions) { o.at = t } }

func applySignal(options []SignalOption) (o signalOptions) {
	for _, option := range options {
		option(&o)
	}
	return o
}
