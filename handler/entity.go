package handler

import (
	"encoding/json"
	"fmt"
	"strings"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/wire"
)

// Entity registers a function with an entityTrigger: durable.Entity makes its operations one. An operation that fails
// leaves the entity's state as it was. At the deadline the operation that is running fails, and the host asks for those
// behind it again.
func (a *App) Entity(name string, e *durable.EntityClass) {
	a.register(&function{name: name, kind: entityKind, entity: e})
}

// checkEntity says what is wrong with an entity that is registered under the name.
func checkEntity(name string, e *durable.EntityClass) error {
	switch {
	case e.Problem != nil:
		return fmt.Errorf("function %s: %w", name, e.Problem)
	case !strings.EqualFold(name, e.Name):
		return fmt.Errorf("function %s is registered with the operations of entity %s: both must have the same name", name, e.Name)
	}
	return nil
}

// isDurable says that the host may be asked to ask again.
func (c *call) isDurable() bool { return c.orchestrator != nil || c.entity != nil }

// operations is the outcome of a batch of an entity's operations.
func operations(r *entity.Result) outcome {
	value, err := json.Marshal(r.Encode())
	return outcome{value: value, err: err, end: failureOf(r)}
}

// giveUpBatch answers with what was done. Any other answer would have the host drop all operations of the batch.
func (c *call) giveUpBatch(kind wire.Kind, message string) outcome {
	errorType := entity.PanicType
	if kind == wire.KindDeadline {
		errorType = entity.DeadlineType
	}
	return operations(c.running.GiveUp(errorType, message))
}
