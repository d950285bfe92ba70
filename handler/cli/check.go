package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"example.com/durablefunctions/handler/internal/config"
)

type checkCommand struct {
	Strict bool   `help:"Exit with 3 when there are only warnings, too."`
	JSON   bool   `name:"json" help:"Print what was found as one JSON array."`
	Dir    string `arg:"" optional:"" default:"." complete:"directory" help:"App root: the directory with host.json."`
}

// finding is what --json prints of an error or a warning.
type finding struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0 means the whole file
	Warning bool   `json:"warning"`
	Text    string `json:"text"`
}

func (c *checkCommand) Run(e *Environment) error {
	warnings, failures := 0, 0
	found := []finding{}
	for _, p := range config.Check(c.Dir, os.Environ()) {
		if p.Warning {
			warnings++
		} else {
			failures++
		}
		p.File = relative(filepath.Join(c.Dir, p.File))
		if found = append(found, finding{p.File, p.Line, p.Warning, p.Text}); !c.JSON {
			fmt.Fprintln(e.Stdout, OneLine(p.String()))
		}
	}
	if !c.JSON {
		fmt.Fprintf(e.Stdout, "errors: %d, warnings: %d\n", failures, warnings)
	} else if err := PrintJSON(e.Stdout, found); err != nil {
		return err
	}
	switch {
	case failures > 0:
		return exit{ExitRejected, nil}
	case warnings > 0 && c.Strict:
		return exit{ExitStrict, nil}
	}
	return nil
}

// relative returns the path as seen from the working directory, if the file lies below it.
func relative(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

// printProblems prints what does not matter on this machine and would fail in Azure.
func printProblems(w io.Writer, problems []config.Problem) {
	for _, p := range problems {
		if !p.Warning {
			fmt.Fprintf(w, "in Azure: %s\n", OneLine(p.String()))
		}
	}
}
