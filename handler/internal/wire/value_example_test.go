package wire_test

import (
	"fmt"

	"example.com/durablefunctions/handler/internal/wire"
)

func ExampleEncodeValue() {
	for _, text := range []string{`{"Total":1.50}`, `{"at":"2026-11-22T10:11:12+02:00"}`} {
		sent, err := wire.EncodeValue([]byte(text))
		fmt.Println(string(sent), err)
		fmt.Println(string(wire.DecodeValue(sent)))
	}
	// Output:
	// {"Total":1.50} <nil>
	// {"Total":1.50}
	// "durable-json:{\"at\":\"2026-11-22T10:11:12+02:00\"}" <nil>
	// {"at":"2026-11-22T10:11:12+02:00"}
}
