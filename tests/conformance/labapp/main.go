// Labapp is the app that was recorded with the real Functions host, built with package handler. The conformance tests play the
// recordings to it. Package functions describes what it does.
package main

import (
	"os"

	"example.com/durablefunctions/tests/conformance/labapp/functions"
)

func main() { os.Exit(functions.App().Serve()) }
