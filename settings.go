package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// environment reads settings, and notes those whose Key Vault reference nobody has resolved. The functions would take
// its text for the value.
type environment struct{ unresolved []string }

func (e *environment) get(name string) string {
	value := os.Getenv(name)
	if isReference(value) && !slices.Contains(e.unresolved, name) {
		e.unresolved = append(e.unresolved, name)
	}
	return value
}

// err returns nil if every setting that was read has a value of its own.
func (e *environment) err() error {
	if len(e.unresolved) == 0 {
		return nil
	}
	return unresolvedError(e.unresolved)
}

// unresolved returns the names of the settings that are Key Vault references.
func unresolved(environ []string) (names []string) {
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); isReference(value) {
			names = append(names, name)
		}
	}
	return names
}

// isReference: Azure puts the secret in the place of the reference before it starts the app, unless it may not read it.
func isReference(value string) bool {
	return strings.HasPrefix(strings.TrimSpace(value), "@Microsoft.KeyVault(")
}

func unresolvedError(names []string) error {
	return fmt.Errorf("unresolved Key Vault reference in the settings %s: check the app's identity and its access to the vault; func start and the commands resolve none",
		strings.Join(names, ", "))
}
