// Package output carries out the output bindings of an answer: a sendGrid output is a mail, which goes to SendGrid or, without a key,
// to a file; every other output becomes a file.
//
//	sender := &output.Sender{Hub: hub, DataDir: dir, Settings: os.Getenv, Log: log, Closing: ctx}
//	err := sender.Send(ctx, output.Source{Function: f, Instance: id}, answer.Outputs) // an *funchost.Exception, in .NET's words
package output

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// Sender sends outputs.
type Sender struct {
	Hub      *taskhub.TaskHub // keeps which mails were sent
	DataDir  string
	Settings func(name string) string
	Log      *slog.Logger
	Closing  context.Context // ends when the host closes: what then fails is tried again by the next host
}

// Source is the invocation whose answer has the outputs. An orchestrator's turn names itself, so that what was sent is
// known when the turn runs again; of any other function Instance may be empty, and Execution is.
type Source struct {
	Function            config.Function
	Instance, Execution string
	Turn                int // events before it
}

// Send sends the outputs of an answer, one after the other. The error is a [*funchost.Exception], or that of Closing.
func (s *Sender) Send(ctx context.Context, from Source, outputs map[string]json.RawMessage) error {
	if from.Execution == "" {
		from.Execution = uuid.NewString()
	}
	if from.Instance == "" {
		from.Instance = from.Execution
	}
	number := 0
	for _, b := range from.Function.Bindings {
		if b.Direction == "in" || b.Is(config.HTTPOutput) { // that is the answer to the client
			continue
		}
		for _, value := range elements(outputs[b.Name]) {
			err := s.send(ctx, from, b, value, number)
			if s.Closing.Err() != nil && err != nil {
				return s.Closing.Err()
			}
			if err != nil {
				return funchost.FailedOutput(from.Function.Name, b.Name, err)
			}
			number++
		}
	}
	return nil
}

func (s *Sender) send(ctx context.Context, from Source, b config.Binding, value json.RawMessage, number int) error {
	content := outputContent(value)
	if b.Is("sendGrid") {
		return s.sendMail(ctx, from, b, content, number)
	}
	folder := filepath.Join(s.DataDir, "outputs", from.Function.Name+"."+b.Name)
	name := fmt.Sprintf("%s-%s-%d-%d%s", safeName(from.Instance), safeName(from.Execution), from.Turn, number, extension(content))
	if err := writeFile(filepath.Join(folder, name), content); err != nil {
		return err
	}
	s.Log.Info("an output was written to a file: this host does not know its type", "function", from.Function.Name, "output", b.Name, "type", b.Type, "file", filepath.Join(folder, name))
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
