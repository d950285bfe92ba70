// Package output carries out the output bindings of an answer. A sendGrid output is a mail. It goes to SendGrid or, without a
// key, to a file. An output to a queue or topic of the app is a message for the functions that listen there. Every other output
// becomes a file.
//
//	sender := &output.Sender{App: app, Hub: hub, Enqueue: inbox.Put, DataDir: dir, Settings: os.Getenv, Log: log, Closing: ctx}
//	err := sender.Send(ctx, output.Source{Function: f, Instance: id}, answer.Outputs) // an *funchost.Exception, in .NET's words
package output

import (
	"context"
	"crypto/sha256"
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
	App      *config.App
	Hub      *taskhub.TaskHub // records which mails were sent
	Enqueue  func(ctx context.Context, function string, m taskhub.Message) error
	DataDir  string
	Settings func(name string) string
	Log      *slog.Logger
	Closing  context.Context // ends when the host closes: the next host retries what fails then
}

// Source is the invocation whose answer has the outputs. For an orchestrator it identifies the turn, so that a turn that runs again
// does not send a mail twice. For any other function Instance may be empty, and Execution identifies the invocation.
type Source struct {
	Function            config.Function
	Instance, Execution string
	Turn                int // number of events before the turn
}

// Send sends the outputs of an answer, one after the other. The error is a [*funchost.Exception], or the error of Closing.
func (s *Sender) Send(ctx context.Context, from Source, outputs map[string]json.RawMessage) error {
	if from.Execution == "" {
		from.Execution = uuid.NewString()
	}
	if from.Instance == "" {
		from.Instance = from.Execution
	}
	number := 0
	for _, b := range from.Function.Bindings {
		if b.Direction == "in" || b.Is(config.HTTPOutput) { // the HTTP output is the answer to the client
			continue
		}
		if err := s.sendAll(ctx, from, b, outputs[b.Name], &number); err != nil {
			if s.Closing.Err() != nil {
				return s.Closing.Err()
			}
			return funchost.FailedOutput(from.Function.Name, b.Name, err)
		}
	}
	return nil
}

// sendAll sends the messages of one binding's value. number counts the messages of the whole answer.
func (s *Sender) sendAll(ctx context.Context, from Source, b config.Binding, value json.RawMessage, number *int) error {
	messages, err := funchost.OutputMessages(b, value)
	if err != nil {
		return err
	}
	for _, content := range messages {
		if len(content) == 0 && b.Is("sendGrid") { // a null in a list of mails
			continue
		}
		if err := s.send(ctx, from, b, content, *number); err != nil {
			return err
		}
		*number++
	}
	return nil
}

func (s *Sender) send(ctx context.Context, from Source, b config.Binding, content []byte, number int) error {
	if b.Is("sendGrid") {
		return s.sendMail(ctx, from, b, content, number)
	}
	if functions := s.listeners(b); len(functions) > 0 {
		for _, function := range functions {
			if err := s.Enqueue(ctx, function, taskhub.Message{Body: content}); err != nil {
				return err
			}
		}
		return nil
	}
	folder := filepath.Join(s.DataDir, "outputs", from.Function.Name+"."+b.Name)
	name := fmt.Sprintf("%s-%s-%d-%d%s", safeName(from.Instance), safeName(from.Execution), from.Turn, number, extension(content))
	if err := writeFile(filepath.Join(folder, name), content); err != nil {
		return err
	}
	s.Log.Info("an output was written to a file: nothing on this host takes it", "function", from.Function.Name, "output", b.Name, "type", b.Type, "file", filepath.Join(folder, name))
	return nil
}

func extension(content []byte) string {
	if json.Valid(content) {
		return ".json"
	}
	return ".txt"
}

var unsafeCharacters = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

const maxSafeName = 80

// safeName makes a file name from any text. Different texts get different names, on any system.
func safeName(text string) string {
	name := unsafeCharacters.ReplaceAllString(text, "_")
	// Upper case counts as a change: some file systems do not tell a from A.
	if name == text && len(name) <= maxSafeName && strings.ToLower(name) == name {
		return name
	}
	hash := sha256.Sum256([]byte(text))
	return name[:min(len(name), maxSafeName)] + "-" + hex.EncodeToString(hash[:6])
}

// writeFile writes the whole file or nothing.
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
