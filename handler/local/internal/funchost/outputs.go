package funchost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
)

// OutputMessages returns what the host sends for the value of an output binding: nothing for null, one message for each element of
// an array, otherwise one message. A string is first decoded if it is base64, ignoring white space, unless the binding has
// "dataType": "binary". A string that begins and ends like an object or an array is read as JSON, and the output fails if it is
// not JSON. Objects and arrays are sent as indented JSON, dates and numbers as .NET writes them, true as True.
func OutputMessages(b config.Binding, value json.RawMessage) ([][]byte, error) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || string(value) == "null" {
		return nil, nil
	}
	if value[0] == '"' {
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, err
		}
		if decoded, ok := decodeBase64(text); ok && !isBinary(b) {
			return [][]byte{decoded}, nil
		}
		if looksLikeJSON(text) {
			parsed, err := newtonsoft.Properties([]byte(text))
			if err != nil {
				return nil, err
			}
			value = parsed
		}
	}
	if value[0] != '[' {
		return [][]byte{outputText(value)}, nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(value, &elements); err != nil {
		return nil, err
	}
	var messages [][]byte
	for _, element := range elements {
		messages = append(messages, outputText(element))
	}
	return messages, nil
}

// decodeBase64 decodes as .NET does, which skips white space.
func decodeBase64(text string) ([]byte, bool) {
	text = strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(text)
	decoded, err := base64.StdEncoding.DecodeString(text)
	return decoded, err == nil
}

// looksLikeJSON is how the host guesses whether a string holds JSON.
func looksLikeJSON(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") || strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]")
}

// outputText returns a value as .NET's ToString writes it.
func outputText(value json.RawMessage) []byte {
	value = bytes.TrimSpace(value)
	switch value[0] {
	case '{', '[':
		var b bytes.Buffer
		if json.Indent(&b, value, "", "  ") != nil {
			return value
		}
		return b.Bytes()
	case '"':
		return []byte(newtonsoft.Text(value))
	}
	return []byte(strings.TrimSuffix(newtonsoft.Text(value), ".0"))
}
