// Labapp is the app that was recorded behind the real Functions host, built on package handler: the conformance tests
// play the recordings against it. Package functions says what it does.
package main

import (
	"os"

	"example.com/durablefunctions/tests/conformance/labapp/functions"
)

func main() { os.Exit(functions.App().Serve()) }
