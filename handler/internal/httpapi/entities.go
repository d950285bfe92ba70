package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// EntityID names an entity: its name, in any case, and its key.
type EntityID struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

func (id EntityID) path() string {
	return "/entities/" + url.PathEscape(id.Name) + "/" + url.PathEscape(id.Key)
}

// Entity is an entity as the API shows it. State is JSON, null if the entity has no state.
type Entity struct {
	ID            EntityID        `json:"entityId"`
	LastOperation time.Time       `json:"lastOperationTime"`
	State         json.RawMessage `json:"state"`
}

// Entities returns a page of the entities with a name, or of all entities for an empty name. size is the page size; 0 means the
// app's default. token is empty for the first page, and the next of the page before for any other. next is empty on the last page.
func (c *Client) Entities(ctx context.Context, name string, size int, token string) (page []Entity, next string, err error) {
	q := url.Values{"fetchState": {"true"}}
	if size > 0 {
		q.Set("top", strconv.Itoa(size))
	}
	a, err := c.do(ctx, http.MethodGet, "/entities/"+url.PathEscape(name), q, nil, pageAfter(token))
	if err != nil {
		return nil, "", err
	}
	if err := json.Unmarshal(a.body, &page); err != nil {
		return nil, "", a.notUnderstood(err)
	}
	return page, a.next(), nil
}

// Entity returns an entity's state. [IsNotFound] recognizes the error if there is none.
func (c *Client) Entity(ctx context.Context, id EntityID) (state json.RawMessage, err error) {
	a, err := c.do(ctx, http.MethodGet, id.path(), nil, nil, nil)
	if err == nil && !json.Valid(a.body) {
		err = a.notUnderstood(nil)
	}
	return a.body, of(err, id.Name+"/"+id.Key)
}

// Signal sends an operation to an entity. Input is JSON; empty means none.
func (c *Client) Signal(ctx context.Context, id EntityID, operation string, input []byte) error {
	_, err := c.do(ctx, http.MethodPost, id.path(), url.Values{"op": {operation}}, input, nil)
	return of(err, id.Name+"/"+id.Key)
}

// DeleteEntity sends the operation delete to an entity. The call is new, and older hosts of deployed apps do not know it.
func (c *Client) DeleteEntity(ctx context.Context, id EntityID) error {
	_, err := c.do(ctx, http.MethodDelete, id.path(), nil, nil, nil)
	return of(err, id.Name+"/"+id.Key)
}
