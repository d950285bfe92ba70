// Package entity has what the host and the handler exchange about a durable entity: its id, the batch of operations of one
// invocation, the answer to it, and the messages that orchestrations send to an entity. Run runs a batch:
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

// NewID returns the id of the function's entity with that key. It makes the name lower case: the host ignores the case of a
// function's name, but takes ids that differ in case for different entities.
func NewID(function, key string) ID { return ID{strings.ToLower(function), key} }

// String returns the entity's instance id: @name@key.
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
