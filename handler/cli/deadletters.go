package cli

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"example.com/durablefunctions/handler/local"
)

type deadLettersCommand struct {
	DataFlag
	JSON     bool    `name:"json" help:"Print them as one JSON array, with their whole texts."`
	Watch    bool    `help:"Look again every two seconds."`
	Resubmit []int64 `placeholder:"NUMBER" help:"Put these back, their deliveries counted anew, instead of listing."`
}

// deadLetter is what --json prints.
type deadLetter struct {
	Number     int64     `json:"number"`
	MessageID  string    `json:"messageId"`
	Function   string    `json:"function"`
	EnqueuedAt time.Time `json:"enqueuedAt"`
	DiedAt     time.Time `json:"diedAt"`
	Deliveries int       `json:"deliveries"`
	Reason     string    `json:"reason"`
	Message    string    `json:"message"`
}

func (c *deadLettersCommand) Run(e *Environment) error {
	dir, err := c.Dir(e)
	if err != nil {
		return err
	}
	if len(c.Resubmit) > 0 {
		if err := local.Resubmit(e.Context, dir, c.Resubmit...); err != nil {
			return err
		}
		if c.JSON {
			return PrintJSON(e.Stdout, map[string]int{"putBack": len(c.Resubmit)})
		}
		fmt.Fprintf(e.Stdout, "put back: %d; a running start delivers them at once, else the next one does\n", len(c.Resubmit))
		return nil
	}
	return watch(e, c.Watch, func(w io.Writer) (done bool, err error) {
		letters, err := local.DeadLetters(e.Context, dir)
		if err != nil {
			return false, err
		}
		return false, c.print(w, letters)
	})
}

func (c *deadLettersCommand) print(w io.Writer, letters []local.DeadLetter) error {
	list := make([]deadLetter, len(letters))
	for i, l := range letters {
		list[i] = deadLetter{l.SequenceNumber, l.ID, l.Function, l.EnqueuedAt.UTC(), l.DiedAt.UTC(), l.DeliveryCount, l.Reason, string(l.Body)}
	}
	if c.JSON {
		return PrintJSON(w, list)
	}
	return printDeadLetters(w, list)
}

// maxShown is how many characters of a message and of a reason the list shows.
const maxShown = 300

func printDeadLetters(w io.Writer, list []deadLetter) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, l := range list {
		if i > 0 {
			fmt.Fprintln(t)
		}
		fmt.Fprintf(t, "Number\t%d\n", l.Number)
		fmt.Fprintf(t, "Function\t%s\n", OneLine(l.Function))
		fmt.Fprintf(t, "Message id\t%s\n", Beginning(l.MessageID, maxShown))
		fmt.Fprintf(t, "Enqueued\t%s\n", l.EnqueuedAt.Format(time.RFC3339))
		fmt.Fprintf(t, "Delivered\t%d times, the last time %s\n", l.Deliveries, l.DiedAt.Format(time.RFC3339))
		fmt.Fprintf(t, "Reason\t%s\n", Beginning(l.Reason, maxShown))
		fmt.Fprintf(t, "Message\t%s\n", Beginning(l.Message, maxShown))
	}
	if len(list) == 0 {
		fmt.Fprintln(t, "No dead letters.")
	} else {
		fmt.Fprintln(t, "\nTo put one back: dead-letters --resubmit NUMBER")
	}
	return t.Flush()
}
