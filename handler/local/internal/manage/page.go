package manage

import (
	"encoding/base64"
	"strings"
)

// pageToken returns the continuation token of a page that begins with that id. Like the host's, it ends with a space.
func pageToken(id string) string { return base64.StdEncoding.EncodeToString([]byte(id)) + " " }

// pageStart returns the id with which the page of a continuation token begins.
func pageStart(token string) (string, error) {
	id, err := base64.StdEncoding.DecodeString(strings.TrimSpace(token))
	return string(id), err
}
