package payload_test

import (
	"errors"
	"fmt"

	"example.com/durablefunctions/handler/payload"
)

func Example() {
	s := payload.Compress(`{"RecordIds":["C-001","C-002"]}`)
	text, err := payload.Decompress(s, 0)
	fmt.Println(text, err)

	// What C# wrote.
	text, err = payload.Decompress("BQAAAB+LCAAAAAAAAAPLSM3JyQcAhqYQNgUAAAA=", 0)
	fmt.Println(text, err)
	// Output:
	// {"RecordIds":["C-001","C-002"]} <nil>
	// hello <nil>
}

func ExampleDecompress_tooLarge() {
	s := payload.Compress("more than ten bytes")
	_, err := payload.Decompress(s, 10)
	fmt.Println(errors.Is(err, payload.ErrTooLarge), err)
	// Output: true the payload is too large: it claims 19 bytes, the limit is 10
}

func ExampleUTF16Len() {
	fmt.Println(payload.UTF16Len("née"), payload.UTF16Len("😀"))
	// Output: 6 4
}
