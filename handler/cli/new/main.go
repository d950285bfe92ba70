// New makes a new app, or a new function in one, without a clone of this repository:
//
//	go run example.com/durablefunctions/handler/cli/new@latest DIR --module PATH
//
// In a clone, go run . new does the same.
package main

import (
	"os"

	"example.com/durablefunctions/handler/cli"
)

func main() { os.Exit(cli.Main(append([]string{"new"}, os.Args[1:]...), cli.App{})) }
