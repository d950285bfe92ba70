package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"example.com/durablefunctions/handler/internal/config"
)

// invocation is where outputs come from. An orchestrator turn names itself, so that what was sent is known when the
// turn has to be run again; of any other function instance may be empty, and execution is.
type invocation struct {
	function            config.Function
	instance, execution string
	turn                int
}

// sendOutputs performs the outputs of an answer. The error is an *exception, or one from the host being closed.
func (h *Host) sendOutputs(ctx context.Context, from invocation, outputs map[string]json.RawMessage) error {
	if from.execution == "" {
		from.execution = uuid.NewString()
	}
	if from.instance == "" {
		from.instance = from.execution
	}
	ctx, stop := h.invocationContext(ctx)
	defer stop()
	number := 0
	for _, b := range from.function.Bindings {
		if b.Direction == "in" {
			continue
		}
		for _, value := range elements(outputs[b.Name]) {
			err := h.sendOutput(ctx, from, b, value, number)
			if h.ctx.Err() != nil && err != nil {
				return h.ctx.Err()
			}
			if err != nil {
				return failed(from.function.Name, &exception{
					kind: invalidOperationException, message: "Error while handling parameter " + b.Name + " after function returned:",
					inner: &exception{kind: invalidOperationException, message: err.Error()},
				})
			}
			number++
		}
	}
	return nil
}

func (h *Host) sendOutput(ctx context.Context, from invocation, b config.Binding, value json.RawMessage, number int) error {
	content := outputContent(value)
	if b.Is("sendGrid") {
		return h.sendMail(ctx, from, b, content, number)
	}
	folder := filepath.Join(h.dataDir, "outputs", from.function.Name+"."+b.Name)
	name := fmt.Sprintf("%s-%s-%d-%d%s", safeName(from.instance), safeName(from.execution), from.turn, number, extension(content))
	if err := writeFile(filepath.Join(folder, name), content); err != nil {
		return err
	}
	h.log.Info("an output was written to a file: this host does not know its type", "function", from.function.Name, "output", b.Name, "type", b.Type, "file", filepath.Join(folder, name))
	return nil
}

// elements: an array sends one message per element, null none.
func elements(value json.RawMessage) []json.RawMessage {
	value = bytes.TrimSpace(value)
	if len(value) == 0 || string(value) == "null" {
		return nil
	}
	var list []json.RawMessage
	if value[0] != '[' || json.Unmarshal(value, &list) != nil {
		return []json.RawMessage{value}
	}
	kept := list[:0]
	for _, element := range list {
		if string(bytes.TrimSpace(element)) != "null" {
			kept = append(kept, element)
		}
	}
	return kept
}

// outputContent is what leaves: a string's text, or its bytes if it is valid base64; anything else as indented JSON.
func outputContent(value json.RawMessage) []byte {
	var text string
	if json.Unmarshal(value, &text) == nil {
		if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
			return decoded
		}
		return []byte(text)
	}
	var b bytes.Buffer
	if json.Indent(&b, value, "", "  ") != nil {
		return value
	}
	return b.Bytes()
}

func extension(content []byte) string {
	if json.Valid(content) {
		return ".json"
	}
	return ".txt"
}

var unsafeCharacters = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

const maxSafeName = 80

// safeName makes a file's name of any text: different ones for different texts, on any system.
func safeName(text string) string {
	name := unsafeCharacters.ReplaceAllString(text, "_")
	// Upper case counts as a change: some file systems do not tell a from A.
	if name == text && len(name) <= maxSafeName && strings.ToLower(name) == name {
		return name
	}
	hash := sha256.Sum256([]byte(text))
	return name[:min(len(name), maxSafeName)] + "-" + hex.EncodeToString(hash[:6])
}

// writeFile writes a file so that it is there whole or not at all.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if syncErr := f.Sync(); err == nil {
		err = syncErr
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
