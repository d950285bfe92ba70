// Package commands holds the commands that only this app has: process prints the result of MyOrchestration, import fills the
// record store. The commands of every app are in handler/cli.
package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	myorchestration "example.com/durablefunctions/MyOrchestration"
	"example.com/durablefunctions/handler/cli"
	"example.com/durablefunctions/handler/local"
	"example.com/durablefunctions/internal/crm"
)

// Commands are the commands in the form of package kong.
type Commands struct {
	Process processCommand `cmd:"" help:"Deliver a file as one message to MyClientFunction, wait for its orchestration and print the result."`
	Import  importCommand  `cmd:"" help:"Import records from a CSV file (columns RecordId,Batch,Name,Email)."`
}

// Result describes the output of a MyOrchestration instance in one line; it returns "" for any other.
func Result(i local.Instance) string {
	var out myorchestration.Output
	if i.Name != string(myorchestration.Name) || json.Unmarshal([]byte(i.Output), &out) != nil {
		return ""
	}
	return fmt.Sprintf("%d records, %d succeeded, %d failed, mail %s", out.Total, out.Succeeded, out.Failed, out.Mail)
}

type importCommand struct {
	cli.DataFlag
	JSON bool   `name:"json" help:"Print a JSON object instead of a line."`
	File string `arg:"" complete:"file" help:"CSV file, or - for standard input."`
}

func (c *importCommand) Run(e *cli.Environment) error {
	if os.Getenv("CRM_BASE_URL") != "" {
		return errors.New("CRM_BASE_URL is set: records are in that CRM, not in a database that can be imported into")
	}
	in, err := cli.Open(c.File)
	if err != nil {
		return err
	}
	defer in.Close()
	path := os.Getenv("CRM_DATABASE")
	if path == "" {
		dir, err := c.Dir(e)
		if err != nil {
			return err
		}
		path = filepath.Join(dir, "crm.db")
	}
	store, err := crm.OpenSQLite(path)
	if err != nil {
		return err
	}
	defer store.Close()
	n, err := store.Import(e.Context, in)
	if err != nil {
		return fmt.Errorf("%s: nothing was imported: %w", c.File, err)
	}
	if c.JSON {
		return cli.PrintJSON(e.Stdout, struct {
			Records  int    `json:"records"`
			Database string `json:"database"`
		}{n, path})
	}
	fmt.Fprintf(e.Stdout, "%d records imported into %s\n", n, path)
	return nil
}
