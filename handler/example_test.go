package handler_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
)

// exampleRoot makes an app root with a function of that name.
func exampleRoot(function, bindings string) string {
	root, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	for name, text := range map[string]string{"host.json": `{"version":"2.0"}`, function + "/function.json": `{"bindings":[` + bindings + `]}`} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			panic(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	return root
}

// A whole app with one activity, and an invocation as the Functions host sends it. In main, os.Exit(app.Serve()) takes the place
// of the test server.
func Example() {
	root := exampleRoot("SayHello", `{"name":"city","type":"activityTrigger","direction":"in"}`)
	defer os.RemoveAll(root)

	app := handler.New()
	app.Activity("SayHello", durable.Activity(func(_ context.Context, city string) (string, error) {
		return "Hello, " + city + "!", nil
	}))
	h, err := app.Handler(handler.Options{Root: root})
	if err != nil {
		fmt.Println(err)
		return
	}
	host := httptest.NewServer(h)
	defer host.Close()
	answer, err := http.Post(host.URL+"/SayHello", "application/json", strings.NewReader(`{"Data":{"city":"\"\\\"Tokyo\\\"\""},"Metadata":{}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	fmt.Println(string(text))
	// Output: {"Outputs":null,"Logs":null,"ReturnValue":"Hello, Tokyo!"}
}

// The folder of a function has another trigger than the function is registered with: the line says what to write.
func ExampleApp_Handler() {
	root := exampleRoot("Nightly", `{"name":"timer","type":"timerTrigger","direction":"in","schedule":"0 0 3 * * *"}`)
	defer os.RemoveAll(root)

	app := handler.New()
	app.Activity("Nightly", durable.Activity(func(context.Context, string) (string, error) { return "", nil }))
	_, err := app.Handler(handler.Options{Root: root})
	fmt.Println(err)
	// Output: Nightly/function.json has a timerTrigger, but the function is registered as an activity: register it with app.Timer("Nightly", …), or write "type": "activityTrigger" into the trigger
}

type order struct{ ID int }

// A function of typed messages is a Go function that a test can call. In main it is registered with app.Queue("Orders", take).
func ExampleJSON() {
	take := handler.JSON(func(_ context.Context, o order, m handler.Message) error {
		fmt.Println("order", o.ID, "of message", m.ID)
		return nil
	})
	_ = take(context.Background(), handler.Message{ID: "m-1", Body: []byte(`{"ID":7}`)})
	fmt.Println(take(context.Background(), handler.Message{ID: "m-2", Body: []byte(`[]`)}) != nil)
	// Output:
	// order 7 of message m-1
	// true
}

// orders is an output of a function: a binding of that name in its function.json.
const orders = handler.OutputName[order]("orders")

func ExampleOutputName_Set() {
	app := handler.New()
	app.HTTP("Order", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		orders.Set(r.Context(), order{ID: 7}) // is sent if the function ends well
		w.WriteHeader(http.StatusAccepted)
	}))
}

// What a function does side by side ends with its invocation, and a panic in it ends nothing else.
func ExampleGo() {
	app := handler.New()
	app.Timer("Nightly", func(ctx context.Context, _ handler.Timer) error {
		for _, region := range []string{"north", "south"} {
			handler.Go(ctx, func() error {
				durable.Log(ctx).Info("cleaning up", "region", region)
				return nil
			})
		}
		return nil
	})
}
