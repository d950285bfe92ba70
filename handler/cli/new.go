package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"example.com/durablefunctions/handler/internal/scaffold"
)

type newCommand struct {
	What    string   `arg:"" name:"dir" help:"Directory of the new app; or the word function, and a name: a new function in the app here."`
	Name    string   `arg:"" optional:"" help:"Name of the new function."`
	Module  string   `help:"Module path of the new app. Default: the directory's name." placeholder:"PATH"`
	With    []string `help:"What the new app has beside an orchestration and an activity: ${with}." default:"queue" placeholder:"TRIGGER" complete:"with"`
	Trigger string   `help:"The new function's trigger: ${triggers}." placeholder:"TRIGGER" complete:"trigger"`
}

func (c *newCommand) Run(e *Environment) error {
	switch {
	case c.What == "function" && c.Name != "":
		return c.function(e)
	case c.Name != "":
		return fmt.Errorf("unexpected argument %s: write new DIR --module PATH, or new function NAME --trigger TRIGGER", c.Name)
	case c.Trigger != "":
		return errors.New("--trigger is for a new function: write new function NAME --trigger TRIGGER")
	}
	for _, trigger := range c.With {
		if !slices.Contains(scaffold.Optional, trigger) {
			return fmt.Errorf("--with %s: choose from %s", trigger, strings.Join(scaffold.Optional, ", "))
		}
	}
	dir, err := filepath.Abs(c.What)
	if err != nil {
		return err
	}
	slices.Sort(c.With)
	files, err := scaffold.New(scaffold.App{Dir: dir, Module: cmp.Or(c.Module, filepath.Base(dir)), With: slices.Compact(c.With)})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.Stdout, "%s has %d files.\n", c.What, len(files))
	if !slices.Contains(files, "go.sum") {
		tidy := exec.Command("go", "mod", "tidy")
		tidy.Dir, tidy.Stderr = dir, e.Stderr
		if err := tidy.Run(); err != nil {
			return fmt.Errorf("the app is made, but go mod tidy in %s failed: %w", c.What, err)
		}
	}
	fmt.Fprintf(e.Stdout, "Next: cd %s && go test ./... && go run . start\n", c.What)
	return nil
}

func (c *newCommand) function(e *Environment) error {
	if !slices.Contains(scaffold.Triggers(), c.Trigger) {
		return fmt.Errorf("--trigger %q: choose from %s", c.Trigger, strings.Join(scaffold.Triggers(), ", "))
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	added, err := scaffold.AddFunction(root, c.Name, c.Trigger)
	if err != nil {
		return err
	}
	for _, file := range added.Files {
		fmt.Fprintf(e.Stdout, "made %s\n", file)
	}
	fmt.Fprintf(e.Stdout, "Put into main.go, among the imports:\n\t%s\nand into functions:\n\t%s\n", added.Import, added.Register)
	return nil
}
