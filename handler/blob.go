package handler

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/wire"
)

// Blob is what a blobTrigger found.
type Blob struct {
	Name    string // within its container: dir/file.json
	Content []byte
	URI     string

	ContentType  string
	LastModified time.Time         // UTC; zero: not known
	Metadata     map[string]string // the blob's own; the host makes each name's first letter a capital
	Params       map[string]string // what the {placeholders} of the trigger's path stand for
}

// Blob registers a function with a blobTrigger. The host reads the whole blob into memory, and more than once: use an Event
// Grid trigger for large ones. After an error it calls the function again, five times in all.
func (a *App) Blob(name string, f func(ctx context.Context, b Blob) error) {
	r := &function{name: name, kind: blobKind}
	if f != nil {
		r.trigger = func(ctx context.Context, in *Invocation) error { return f(ctx, in.blob()) }
	}
	a.register(r)
}

func (in *Invocation) blob() Blob {
	trigger := in.function.Trigger()
	path := trigger.Property("path")
	host := in.metadata(func(string) bool { return false }) // the host copies nothing of a blob there
	b := Blob{Content: in.Bytes(trigger.Name), URI: host.text("Uri"), Params: map[string]string{}}
	b.Name = blobName(b.URI, path)
	var properties struct{ ContentType, LastModified string }
	_ = json.Unmarshal(host.raw("Properties"), &properties)
	b.ContentType, b.LastModified = properties.ContentType, hostTime(properties.LastModified)
	_ = json.Unmarshal(host.raw("Metadata"), &b.Metadata)
	for _, name := range placeholders(path) {
		if value := host.raw(name); value != nil {
			b.Params[name] = wire.Text(value)
		}
	}
	return b
}

// blobName is the part of a blob's URI behind the container. In an emulator's URI the account stands before the container.
func blobName(uri, path string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	container, _, _ := strings.Cut(path, "/")
	first, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if second, name, ok := strings.Cut(rest, "/"); ok && first != container && second == container {
		return name
	}
	return rest
}

// placeholders returns the names in braces of a path such as samples/{name}.{ext}.
func placeholders(path string) (names []string) {
	for {
		_, after, ok := strings.Cut(path, "{")
		name, rest, closed := strings.Cut(after, "}")
		if !ok || !closed {
			return names
		}
		names, path = append(names, name), rest
	}
}
