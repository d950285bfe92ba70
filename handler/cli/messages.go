package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"example.com/durablefunctions/handler/local"
)

type messagesCommand struct {
	List listMessages `cmd:"" help:"List the messages that wait for their function. Works beside a running start; dead-letters lists those that it has given up."`
}

type listMessages struct {
	DataFlag
	JSON  bool `name:"json" help:"Print them as one JSON array, with their whole texts."`
	Watch bool `help:"Look again every two seconds."`
}

// waitingMessage is what --json prints.
type waitingMessage struct {
	Number     int64      `json:"number"`
	MessageID  string     `json:"messageId"`
	Function   string     `json:"function"`
	EnqueuedAt time.Time  `json:"enqueuedAt"`
	Deliveries int        `json:"deliveries"`
	Due        *time.Time `json:"due"` // null: at once
	Reason     string     `json:"reason"`
	Message    string     `json:"message"`
}

func (c *listMessages) Run(e *Environment) error {
	dir, err := c.Dir(e)
	if err != nil {
		return err
	}
	return watch(e, c.Watch, func(w io.Writer) (done bool, err error) {
		messages, err := local.WaitingMessages(e.Context, dir)
		if err != nil {
			return false, err
		}
		return false, c.print(w, messages)
	})
}

func (c *listMessages) print(w io.Writer, messages []local.WaitingMessage) error {
	list := make([]waitingMessage, len(messages))
	for i, m := range messages {
		list[i] = waitingMessage{m.SequenceNumber, m.ID, m.Function, m.EnqueuedAt.UTC(), m.DeliveryCount, nil, m.Reason, string(m.Body)}
		if !m.Due.IsZero() {
			due := m.Due.UTC()
			list[i].Due = &due
		}
	}
	if c.JSON {
		return PrintJSON(w, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "No messages are waiting.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NUMBER\tFUNCTION\tENQUEUED\tDELIVERIES\tNEXT\tLAST FAILURE\tMESSAGE")
	for _, m := range list {
		next := "at once"
		if m.Due != nil {
			next = localTime(*m.Due)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", m.Number, OneLine(m.Function), localTime(m.EnqueuedAt), m.Deliveries, next, Beginning(m.Reason, 60), Beginning(m.Message, 60))
	}
	return t.Flush()
}
