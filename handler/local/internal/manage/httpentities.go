package manage

import (
	"net/http"
	"strings"

	"github.com/google/uuid"

	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// emptyKey replaces the empty key in a path.
const emptyKey = "$"

// entities returns the function that answers a request below /entities. s is empty, an entity's name, or its name and key.
func (c *call) entities(s []string) func() error {
	name, key := "", ""
	if len(s) > 0 {
		name = s[0]
	}
	if len(s) > 1 {
		key = s[1]
	}
	switch c.r.Method {
	case http.MethodGet:
		if key == "" {
			return func() error { return c.listEntities(name) }
		}
		return func() error { return c.entity(name, key) }
	case http.MethodPost:
		return func() error { return c.signal(name, key, c.param("op")) }
	case http.MethodDelete:
		return func() error { return c.signal(name, key, entity.DeleteOperation) }
	}
	return nil
}

// entity answers with an entity's state.
func (c *call) entity(name, key string) error {
	if key == emptyKey {
		key = ""
	}
	e, exists, err := c.hub.Entity(c.r.Context(), entity.NewID(name, key).String())
	switch {
	case err != nil:
		return err
	case !exists:
		return answered(http.StatusNotFound)
	}
	return c.send(http.StatusOK, valueOf(*e.State))
}

func (c *call) listEntities(name string) error {
	after, err := c.pageStart()
	if err != nil {
		return err
	}
	f := taskhub.EntityFilter{PageSize: c.int("top"), After: after}
	if name != "" {
		f.Prefix = entity.NewID(name, "").String()
	}
	f.From, _ = c.time("lastOperationTimeFrom")
	f.To, _ = c.time("lastOperationTimeTo")
	page, next, err := c.hub.QueryEntities(c.r.Context(), f)
	if err != nil {
		return err
	}
	var list [][]byte
	for _, e := range page {
		if id, ok := entity.ParseID(e.ID); ok {
			list = append(list, describeEntity(id, e, c.isTrue("fetchState")))
		}
	}
	return c.sendPage(list, next)
}

// describeEntity returns an entity as the extension shows it: its name is in lower case, whatever the case in its id.
func describeEntity(id entity.ID, e taskhub.Entity, withState bool) []byte {
	shown := &newtonsoft.Object{}
	shown.AddText("name", strings.ToLower(id.Name))
	shown.AddText("key", id.Key)
	o := &newtonsoft.Object{}
	o.Add("entityId", shown.Append(nil))
	o.AddText("lastOperationTime", ticks(e.Modified)+"Z")
	state := null
	if withState && e.State != nil {
		state = valueOf(*e.State)
	}
	o.Add("state", state)
	return o.Append(nil)
}

// signal sends an operation to an entity. If the app does not have the entity's function, the signal is accepted but lost.
func (c *call) signal(name, key, operation string) error {
	switch {
	case name == "":
		return refusedMessage("Invalid entity id: entity name must not be a null or empty string. (Parameter 'entityName')")
	case strings.ContainsFunc(key, isInvalidInKey):
		// The extension's text has the words in this odd order.
		return refusedMessage(`entityKey (Parameter 'Entity keys must not contain /, \, #, ?, or control characters.')`)
	}
	input, err := c.operationInput()
	if err != nil {
		return err
	}
	return c.accepted(c.hub.SignalEntity(c.r.Context(), entity.NewID(name, key).String(), entity.Signal{ID: uuid.NewString(), Operation: operation, Input: input}))
}

func isInvalidInKey(r rune) bool {
	return strings.ContainsRune(`/\#?`, r) || r < ' ' || r >= 0x7f && r <= 0x9f
}

// operationInput returns the body as JSON. A body of another type becomes a JSON string; an empty body becomes no input.
func (c *call) operationInput() ([]byte, error) {
	body, err := c.body()
	if err != nil || len(body) == 0 {
		return nil, err
	}
	if !c.sentJSON() {
		return newtonsoft.Once(string(body)), nil
	}
	input, err := newtonsoft.Input(body)
	if err != nil {
		_, text := parseError(body, err)
		return nil, refusedMessage("Could not parse JSON content: " + text)
	}
	return input, nil
}

// makePrimary answers the call that takes over a task hub from another app. Here no other app uses the task hub.
func (c *call) makePrimary() error {
	c.w.WriteHeader(http.StatusOK)
	return nil
}
