package myclientfunction

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// Message is what the queue brings: records, or the batch that they are in.
type Message struct {
	RecordIds []string // each once, in the order of their first mention
	Batch     string   // empty if there are RecordIds
}

// wholeNumber is an id that was sent as a number. Its digits are the id.
var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// Parse reads a message of at most limit bytes: {"RecordIds": ["C-001", 17]} or {"Batch": "2026-11"}, as people and their
// serialisers write them. The case of the names does not matter, blanks around an id or a batch do not count, null counts
// as absent, and so does an empty one of the two beside the other. A batch may be a whole number. A message that was made
// JSON twice is read all the same. Other fields are ignored.
func Parse(text string, limit int) (Message, error) {
	if len(text) > limit {
		return Message{}, fmt.Errorf("the message is too large: the limit is %d bytes (setting MESSAGE_MAX_BYTES)", limit)
	}
	var fields struct{ RecordIds, Batch json.RawMessage }
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		var inner string
		if json.Unmarshal([]byte(text), &inner) == nil && strings.HasPrefix(strings.TrimSpace(inner), "{") {
			return Parse(inner, limit)
		}
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return Message{}, fmt.Errorf(`the message is a JSON %s; it must be an object such as {"RecordIds": ["C-001"]}`, wrong.Value)
		}
		return Message{}, fmt.Errorf("the message is not JSON: %w", err)
	}
	ids, batch := given(fields.RecordIds), given(fields.Batch)
	switch {
	case ids && batch && isEmpty(fields.Batch):
		return parseIDs(fields.RecordIds)
	case ids && batch && isEmpty(fields.RecordIds):
		return parseBatch(fields.Batch)
	case ids && batch:
		return Message{}, errors.New("the message has both RecordIds and Batch; it must have one of them")
	case ids:
		return parseIDs(fields.RecordIds)
	case batch:
		return parseBatch(fields.Batch)
	}
	return Message{}, errors.New("the message has neither RecordIds nor Batch")
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && !bytes.Equal(raw, []byte("null")) }

// isEmpty says whether a field is [] or a blank string.
func isEmpty(raw json.RawMessage) bool {
	return strings.Trim(string(raw), "[]\" \t\r\n") == ""
}

func parseIDs(raw json.RawMessage) (Message, error) {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return Message{}, errors.New("the message's RecordIds must be an array of strings or whole numbers")
	}
	ids := make([]string, len(items))
	for i, item := range items {
		var err error
		if ids[i], err = parseID(item); err != nil {
			return Message{}, fmt.Errorf("the message's RecordIds[%d] %w", i, err)
		}
	}
	return Message{RecordIds: unique(ids)}, nil
}

// unique keeps the first mention of each id.
func unique(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(ids, func(id string) bool {
		defer func() { seen[id] = true }()
		return seen[id]
	})
}

func parseID(raw json.RawMessage) (string, error) {
	var id string
	switch {
	case wholeNumber.Match(raw):
		return string(raw), nil
	case json.Unmarshal(raw, &id) != nil || bytes.Equal(raw, []byte("null")):
		return "", fmt.Errorf("is %.40s; it must be a string or a whole number", raw)
	}
	if id = strings.TrimSpace(id); id == "" {
		return "", errors.New("is empty")
	}
	return id, nil
}

func parseBatch(raw json.RawMessage) (Message, error) {
	var m Message
	if wholeNumber.Match(raw) {
		return Message{Batch: string(raw)}, nil
	}
	if json.Unmarshal(raw, &m.Batch) != nil || strings.TrimSpace(m.Batch) == "" {
		return Message{}, errors.New("the message's Batch must be a non-empty string, or a whole number")
	}
	m.Batch = strings.TrimSpace(m.Batch)
	return m, nil
}

// decode returns the text of a message's bytes: UTF-8, or UTF-16 with its byte order mark.
func decode(body []byte) (string, error) {
	text, _, err := transform.Bytes(unicode.BOMOverride(unicode.UTF8.NewDecoder()), body)
	if err != nil {
		return "", fmt.Errorf("the message cannot be read: %w", err)
	}
	marked := bytes.HasPrefix(body, []byte{0xff, 0xfe}) || bytes.HasPrefix(body, []byte{0xfe, 0xff})
	if zero := bytes.IndexByte(body, 0) >= 0; !marked && (zero || !utf8.Valid(body)) { // UTF-16 is full of zeros
		return "", errors.New("the message is neither UTF-8 nor UTF-16 with a byte order mark: send it as UTF-8")
	}
	return string(text), nil
}
