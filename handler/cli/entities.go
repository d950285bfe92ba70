package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"example.com/durablefunctions/handler/internal/httpapi"
)

type entitiesCommand struct {
	List   listEntities `cmd:"" help:"List entities with their states."`
	Show   showEntity   `cmd:"" help:"Print an entity's state."`
	Signal signalEntity `cmd:"" help:"Send an operation to an entity, which runs it later."`
	Delete deleteEntity `cmd:"" help:"Have an entity run its operation delete, which ends its state."`
}

type listEntities struct {
	Remote
	Name  string `arg:"" optional:"" help:"Only those of this entity function."`
	Top   int    `default:"100" help:"At most so many; 0 for all."`
	JSON  bool   `name:"json" help:"Print them as one JSON array."`
	Watch bool   `help:"Look again every two seconds."`
}

func (c *listEntities) Run(e *Environment) error {
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return watch(e, c.Watch, func(w io.Writer) (bool, error) {
		list, more := []httpapi.Entity{}, true
		for next := ""; more && (c.Top == 0 || len(list) < c.Top); more = next != "" {
			var page []httpapi.Entity
			if page, next, err = client.Entities(e.Context, c.Name, max(c.Top-len(list), 0), next); err != nil {
				return false, err
			}
			list = append(list, page...)
		}
		if c.JSON {
			return false, PrintJSON(w, list)
		}
		return false, printEntities(w, list, more)
	})
}

func printEntities(w io.Writer, list []httpapi.Entity, more bool) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No entities.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tKEY\tLAST OPERATION\tSTATE")
	for _, entity := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", OneLine(entity.ID.Name), OneLine(entity.ID.Key), localTime(entity.LastOperation), value(entity.State, 80))
	}
	if more {
		fmt.Fprintln(t, "There are more: --top 0 lists all")
	}
	return t.Flush()
}

// entityArgument is an argument of the form NAME/KEY.
type entityArgument struct {
	Entity string `arg:"" placeholder:"NAME/KEY" help:"The entity, as NAME/KEY."`
}

func (a entityArgument) id() (id httpapi.EntityID, err error) {
	name, key, found := strings.Cut(a.Entity, "/")
	if !found || name == "" || key == "" {
		return id, fmt.Errorf("%s is no entity: write NAME/KEY", a.Entity)
	}
	return httpapi.EntityID{Name: name, Key: key}, nil
}

type showEntity struct {
	Remote
	entityArgument
	Watch bool `help:"Look again every two seconds."`
}

func (c *showEntity) Run(e *Environment) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	return watch(e, c.Watch, func(w io.Writer) (bool, error) {
		state, err := client.Entity(e.Context, id)
		if err != nil {
			return false, err
		}
		return false, PrintJSON(w, state)
	})
}

type signalEntity struct {
	Remote
	entityArgument
	Operation string `arg:"" help:"Name of the operation."`
	Input     string `help:"Its input: JSON, @FILE, or - for what is piped in."`
}

func (c *signalEntity) Run(e *Environment) (err error) {
	var input []byte
	if c.Input != "" {
		if input, err = jsonArgument("--input", c.Input); err != nil {
			return err
		}
	}
	return c.send(e, c.Remote, func(client *httpapi.Client, id httpapi.EntityID) error {
		return client.Signal(e.Context, id, c.Operation, input)
	})
}

type deleteEntity struct {
	Remote
	entityArgument
}

func (c *deleteEntity) Run(e *Environment) error {
	return c.send(e, c.Remote, func(client *httpapi.Client, id httpapi.EntityID) error {
		return client.DeleteEntity(e.Context, id)
	})
}

func (a entityArgument) send(e *Environment, r Remote, send func(*httpapi.Client, httpapi.EntityID) error) error {
	id, err := a.id()
	if err != nil {
		return err
	}
	client, err := r.client(e)
	if err != nil {
		return err
	}
	if err := send(client, id); err != nil {
		return exitOf(err)
	}
	_, err = fmt.Fprintf(e.Stdout, "%s: sent\n", OneLine(a.Entity))
	return err
}
