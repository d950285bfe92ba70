package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/microsoft/durabletask-go/api"

	"example.com/durablefunctions/handler/local"
)

type deliverCommand struct {
	DataFlag
	Function  string `placeholder:"NAME" complete:"function" help:"Function with a message trigger; may be left out if there is one."`
	MessageID string `placeholder:"ID" help:"The message's id: one that was delivered before starts nothing twice. Default: a random one."`
	JSON      bool   `name:"json" help:"Print a JSON array instead of a table; when a start took the message, a JSON object."`
	File      string `arg:"" complete:"file" help:"File with the message, or - for standard input."`
}

// delivered is what --json prints of an orchestration.
type delivered struct {
	InstanceID    string          `json:"instanceId"`
	Name          string          `json:"name"`
	RuntimeStatus string          `json:"runtimeStatus"`
	Output        json.RawMessage `json:"output"` // null: it has no output, or did not complete
	Error         string          `json:"error,omitempty"`
}

func (c *deliverCommand) Run(e *Environment) error {
	dir, err := c.Dir(e)
	if err != nil {
		return err
	}
	if address := runningAt(dir); address != "" {
		return c.post(e, address)
	}
	o := RunOptions{DataFlag: c.DataFlag, File: c.File, Function: c.Function, MessageID: c.MessageID}
	return e.Run(o, func(_ *Session, instances []local.Instance) (int, error) { return c.print(e.Stdout, instances) })
}

// post posts the message to a running start.
func (c *deliverCommand) post(e *Environment, address string) error {
	if c.Function == "" {
		return fmt.Errorf("start is running, at http://%s: name the function that the message is for with --function", address)
	}
	text, err := readFile(c.File)
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		Input     string `json:"input"`
		MessageID string `json:"messageId,omitempty"`
	}{string(text), c.MessageID})
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 30 * time.Second}
	response, err := client.Post("http://"+address+"/admin/functions/"+c.Function, "application/json", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the running start does not answer: %w", err)
	}
	defer response.Body.Close()
	reason, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("the running start at http://%s refused the message for %s: %s %s", address, c.Function, response.Status, bytes.TrimSpace(reason))
	}
	if c.JSON {
		return PrintJSON(e.Stdout, map[string]string{"acceptedBy": "http://" + address})
	}
	fmt.Fprintf(e.Stdout, "accepted by the running start at http://%s\n", address)
	return nil
}

func (c *deliverCommand) print(w io.Writer, instances []local.Instance) (exitCode int, err error) {
	list := make([]delivered, len(instances))
	for i, instance := range instances {
		list[i] = delivered{InstanceID: instance.ID, Name: instance.Name, RuntimeStatus: local.StatusName(instance.Status)}
		if instance.Status != api.RUNTIME_STATUS_COMPLETED {
			list[i].Error, exitCode = local.Reason(instance), ExitFailed
		} else if json.Valid([]byte(instance.Output)) {
			list[i].Output = json.RawMessage(instance.Output)
		}
	}
	return exitCode, c.printList(w, list)
}

func (c *deliverCommand) printList(w io.Writer, list []delivered) error {
	if c.JSON {
		return PrintJSON(w, list)
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "The message was taken, and started no orchestration.")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", OneLine(d.Name), OneLine(d.InstanceID), d.RuntimeStatus, Beginning(string(d.Output)+d.Error, maxShown))
	}
	return t.Flush()
}
