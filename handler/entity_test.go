package handler_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/internal/testkit"
)

const entityJSON = `{"bindings":[{"name":"context","type":"entityTrigger","direction":"in"}]}`

// entityBody is the request of a batch, in protobuf JSON.
func entityBody(t testing.TB, batch string) string {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName("EntityBatchRequest")
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New().Interface()
	if err := protojson.Unmarshal([]byte(batch), m); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return `{"Data":{"context":` + testkit.Twice(base64.StdEncoding.EncodeToString(raw)) + `},"Metadata":{"sys":{"MethodName":"Tally"}}}`
}

// entityAnswer is the answer to a batch.
type entityAnswer struct {
	Results []struct {
		Success *struct{ Result *string }
		Failure *struct {
			FailureDetails struct{ ErrorType, ErrorMessage string }
		}
	}
	Actions     []map[string]any
	EntityState *string
}

func decodeEntity(t testing.TB, a testkit.Answer) (r entityAnswer) {
	t.Helper()
	var text string
	if err := json.Unmarshal(a.ReturnValue, &text); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	m, err := testkit.DecodeMessage("EntityBatchResult", text)
	if err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	out, err := protojson.Marshal(m.Interface())
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type tallyState struct{ N int }

const tallies = durable.EntityName[tallyState]("Tally")

func (s *tallyState) Add(_ context.Context, n int) (int, error) {
	if n < 0 {
		return 0, errors.New("only up")
	}
	s.N += n
	return s.N, nil
}

var (
	add  = durable.NewOperation(tallies, "Add", (*tallyState).Add)
	late = durable.NewOperation(tallies, "Late", func(_ *tallyState, ctx context.Context, _ any) (any, error) {
		<-ctx.Done()
		return nil, nil
	})
	leave = durable.NewOperation(tallies, "Leave", func(*tallyState, context.Context, any) (any, error) {
		runtime.Goexit()
		return nil, nil
	})
)

func tallyApp() *handler.App {
	app := handler.New()
	app.Entity("Tally", durable.Entity(add, late, leave))
	return app
}

func TestEntityBatch(t *testing.T) {
	t.Parallel()
	h := start(t, tallyApp(), map[string]string{"Tally/function.json": entityJSON}, nil)
	got := decodeEntity(t, h.post("Tally", entityBody(t, `{"instanceId":"@tally@k","entityState":"{\"N\":1}","operations":[
		{"operation":"add","requestId":"1","input":"2"},{"operation":"add","requestId":"2","input":"-1"},{"operation":"add","requestId":"3","input":"4"}]}`)))
	if len(got.Results) != 3 || got.EntityState == nil || *got.EntityState != `{"N":7}` {
		t.Fatalf("%+v", got)
	}
	if *got.Results[0].Success.Result != "3" || got.Results[1].Failure.FailureDetails.ErrorMessage != "only up" || *got.Results[2].Success.Result != "7" {
		t.Errorf("%+v", got.Results)
	}
}

// TestEntityGivenUp: an operation that does not return fails alone; what is behind it is left to the host to ask again.
func TestEntityGivenUp(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	wait := durable.NewOperation(tallies, "Wait", func(*tallyState, context.Context, any) (any, error) { <-released; return nil, nil })
	app := handler.New()
	app.Entity("Tally", durable.Entity(add, wait, leave))
	for operation, want := range map[string]string{"wait": "EntityOperationDeadlineExceeded", "leave": "EntityOperationPanic"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			h := start(t, app, map[string]string{"Tally/function.json": entityJSON, "host.json": `{"version":"2.0","functionTimeout":"00:00:02"}`}, nil)
			got := decodeEntity(t, h.post("Tally", entityBody(t, `{"instanceId":"@tally@k","operations":[{"operation":"add","requestId":"1","input":"2"},
				{"operation":"`+operation+`","requestId":"2"},{"operation":"add","requestId":"3","input":"4"}]}`)))
			if len(got.Results) != 2 || got.EntityState == nil || *got.EntityState != `{"N":2}` || got.Results[1].Failure == nil || got.Results[1].Failure.FailureDetails.ErrorType != want {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestEntityOutOfTime: an operation that ends with the time is the last; what is behind it is left to the host to ask again.
func TestEntityOutOfTime(t *testing.T) {
	t.Parallel()
	h := start(t, tallyApp(), map[string]string{"Tally/function.json": entityJSON, "host.json": `{"version":"2.0","functionTimeout":"00:00:02"}`}, nil)
	got := decodeEntity(t, h.post("Tally", entityBody(t, `{"instanceId":"@tally@k","operations":[{"operation":"late","requestId":"1"},{"operation":"add","requestId":"2","input":"4"}]}`)))
	if len(got.Results) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestEntityBadBatch(t *testing.T) {
	t.Parallel()
	h := start(t, tallyApp(), map[string]string{"Tally/function.json": entityJSON}, nil)
	for name, data := range map[string]string{
		"nothing": `null`, "not base64": testkit.Twice("?"), "not protobuf": testkit.Twice("////"), "no entity": testkit.Twice("CgFr"),
	} {
		if a := h.post("Tally", `{"Data":{"context":`+data+`}}`); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %s", name, a)
		}
	}
}

func TestEntityRegistration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		register func(*handler.App)
		folder   string
		want     string
	}{
		"another name":    {func(a *handler.App) { a.Entity("Other", durable.Entity(add)) }, entityJSON, "both must have the same name"},
		"no operations":   {func(a *handler.App) { a.Entity("Other", durable.Entity()) }, entityJSON, "function Other: the entity has no operations"},
		"another trigger": {func(a *handler.App) { a.Entity("Tally", durable.Entity(add)) }, activityJSON, "registered as an entity"},
	} {
		app := handler.New()
		c.register(app)
		root := appRoot(t, map[string]string{"Tally/function.json": c.folder})
		_, err := app.Handler(handler.Options{Root: root, Environ: []string{}, Getenv: func(string) string { return "" }})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzEntityInvocation(f *testing.F) {
	f.Add(entityBody(f, `{"instanceId":"@tally@k","operations":[{"operation":"add","requestId":"1","input":"2"}]}`))
	f.Add(`{"Data":{"context":"\"CgFr\""}}`)
	app := tallyApp()
	h, err := app.Handler(handler.Options{Root: appRoot(f, map[string]string{"Tally/function.json": entityJSON}), Environ: []string{}, Getenv: func(string) string { return "" }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) { fuzzPost(t, h, "Tally", body) })
}
