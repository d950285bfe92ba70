package local_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"example.com/durablefunctions/handler/local"
)

// A message for a trigger function, through a handler that answers by hand.
func Example() {
	root, err := os.MkdirTemp("", "app")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	write(root, "host.json", `{"version":"2.0"}`)
	write(root, "Greet/function.json", `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"item"}]}`)

	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Data map[string]string }
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &request); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"Logs":[%s]}`, request.Data["item"]) // which is encoded twice
	})

	ctx := context.Background()
	host, err := local.Open(ctx, local.Options{
		Root: root, DataDir: filepath.Join(root, ".local"), Handler: handler,
		OnConsole: func(function, line string) { fmt.Printf("%s says %s\n", function, line) },
	})
	if err != nil {
		panic(err)
	}
	if _, err := host.Deliver(ctx, "Greet", local.Message{Body: []byte("hello")}); err != nil {
		panic(err)
	}
	if err := host.Close(ctx); err != nil {
		panic(err)
	}
	// Output: Greet says hello
}

func write(root, name, text string) {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		panic(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		panic(err)
	}
}
