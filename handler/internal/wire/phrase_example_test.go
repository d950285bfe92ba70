package wire_test

import (
	"fmt"

	"example.com/durablefunctions/handler/internal/wire"
)

func ExampleEncodePhrase() {
	phrase := wire.EncodePhrase(wire.KindFailed, "Karte abgelehnt:\nüber dem Limit")
	fmt.Println(phrase)

	// The host reads it as Latin-1 and puts it into the failure details.
	message := "Response status code does not indicate success: 500 (" + wire.Latin1(phrase) + ")."
	arrived, _ := wire.PhraseOf(message)
	kind, text, marked := wire.DecodePhrase(arrived)
	fmt.Printf("%s %q %v\n", kind, text, marked)
	// Output:
	// durable/failed: Karte abgelehnt:\nüber dem Limit
	// failed "Karte abgelehnt:\nüber dem Limit" true
}
