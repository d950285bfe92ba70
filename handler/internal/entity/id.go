// Package entity holds what the host and the handler say to each other about a durable entity: its id, the batch of operations of
// one invocation and the answer to it, and the messages that orchestrations send to an entity. Run runs a batch:
//
//	batch, err := entity.DecodeBatch(text)
//	run := entity.NewRun(batch, class, 0, logger)
//	run.Do(ctx)
//	answer := run.Result().Encode()
package entity

import "strings"

// ID names an entity: the lower-case name of its function, and its key.
type ID struct {
	Name, Key string
}

// NewID is the id of the function's entity with that key. To the host the case of a function's name does not matter, but two ids
// that differ in case are two entities; so the name is made lower case.
func NewID(function, key string) ID { return ID{strings.ToLower(function), key} }

// String is the entity's instance id: @name@key.
func (id ID) String() string { return "@" + id.Name + "@" + id.Key }

// ParseID reads an entity's instance id.
func ParseID(text string) (id ID, ok bool) {
	rest, ok := strings.CutPrefix(text, "@")
	if !ok {
		return ID{}, false
	}
	id.Name, id.Key, ok = strings.Cut(rest, "@")
	return id, ok && id.Name != ""
}
