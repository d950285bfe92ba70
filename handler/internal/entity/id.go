// Package entity holds what a durable entity is to the host: its id, the batch of operations of one invocation and the
// answer to it, and the messages by which orchestrations reach it. Run runs a batch.
package entity

import "strings"

// ID names an entity: the lower-case name of its function, and its key.
type ID struct {
	Name, Key string
}

// NewID is the id of the function's entity with that key. The host finds the function in any case, and takes ids that
// differ in case for two entities.
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
