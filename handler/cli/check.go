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
	Dir    string `arg:"" optional:"" default:"." complete:"directory" help:"App root: the directory with host.json."`
}

func (c *checkCommand) Run(e *Environment) error {
	warnings, failures := 0, 0
	for _, p := range config.Check(c.Dir, os.Environ()) {
		if p.Warning {
			warnings++
		} else {
			failures++
		}
		p.File = relative(filepath.Join(c.Dir, p.File))
		fmt.Fprintln(e.Stdout, OneLine(p.String()))
	}
	fmt.Fprintf(e.Stdout, "errors: %d, warnings: %d\n", failures, warnings)
	switch {
	case failures > 0:
		return exit{ExitRejected, nil}
	case warnings > 0 && c.Strict:
		return exit{ExitStrict, nil}
	}
	return nil
}

// relative is a path as seen from the working directory, if it lies below that.
func relative(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

// printProblems says what does not matter here and would in Azure.
func printProblems(w io.Writer, problems []config.Problem) {
	for _, p := range problems {
		if !p.Warning {
			fmt.Fprintf(w, "in Azure: %s\n", OneLine(p.String()))
		}
	}
}
