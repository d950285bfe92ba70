package durable_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// box is an entity that keeps what it is told.
type box struct{ Items []string }

const boxes = durable.EntityName[box]("Box")

type none struct{}

var (
	put = durable.NewOperation(boxes, "Put", func(b *box, _ context.Context, item string) (int, error) {
		b.Items = append(b.Items, item)
		return len(b.Items), nil
	})
	look = durable.NewOperation(boxes, "Look", func(b *box, _ context.Context, _ none) ([]string, error) { return b.Items, nil })
	fail = durable.NewOperation(boxes, "Fail", func(b *box, ctx context.Context, item string) (none, error) {
		b.Items = append(b.Items, item)
		durable.Current(ctx).Delete()
		return none{}, errors.Join(put.Send(ctx, durable.Current(ctx), "other", "lost"), errors.New("no room"))
	})
	blow = durable.NewOperation(boxes, "Blow", func(b *box, _ context.Context, _ none) (none, error) { b.Items = nil; panic("bang") })
	drop = durable.NewOperation(boxes, "Drop", func(b *box, ctx context.Context, _ none) (string, error) {
		durable.Current(ctx).Delete()
		return durable.Current(ctx).ID().Key, nil
	})
	pass = durable.NewOperation(boxes, "Pass", func(b *box, ctx context.Context, to string) (string, error) {
		current := durable.Current(ctx)
		for _, item := range b.Items {
			if err := put.Send(ctx, current, to, item); err != nil {
				return "", err
			}
		}
		b.Items = nil
		return current.Start("Audit", "", to)
	})
	numbered = durable.NewOperation(durable.EntityName[int]("Box"), "Odd", func(*int, context.Context, none) (none, error) { return none{}, nil })
	unknown  = durable.NewOperation(boxes, "Unknown", func(*box, context.Context, none) (none, error) { return none{}, nil })
	wrong    = durable.NewOperation(boxes, "Put", func(*box, context.Context, int) (int, error) { return 0, nil })
	nobody   = durable.NewOperation(durable.EntityName[box]("Nobody"), "Put", func(*box, context.Context, none) (none, error) { return none{}, nil })
)

func boxEnv(t *testing.T) *durabletest.Env {
	env := durabletest.New(t)
	env.Entity("Box", durable.Entity(put, look, fail, blow, drop, pass, numbered))
	env.Orchestrator("Audit", durable.Orchestrator(func(ctx *task.OrchestrationContext, key string) (none, error) {
		put.Signal(ctx, "audit", key)
		return none{}, nil
	}))
	return env
}

func TestEntityCalls(t *testing.T) {
	t.Parallel()
	type ctx = *task.OrchestrationContext
	const one = `{"Items":["one"]}`
	for name, c := range map[string]struct {
		call func(ctx) error
		kind durable.FailureKind
		says string // the error, empty: none
		want map[string]string
	}{
		"result":        {func(c ctx) error { _, err := put.Call(c, "a", "two").Await(); return err }, 0, "", map[string]string{"@box@a": `{"Items":["one","two"]}`}},
		"another key":   {func(c ctx) error { _, err := put.Call(c, "A", "x").Await(); return err }, 0, "", map[string]string{"@box@a": one, "@box@A": `{"Items":["x"]}`}},
		"error":         {func(c ctx) error { _, err := fail.Call(c, "a", "x").Await(); return err }, durable.Failed, "no room", map[string]string{"@box@a": one}},
		"panic":         {func(c ctx) error { _, err := blow.Call(c, "a", none{}).Await(); return err }, durable.Panicked, "panic: bang", map[string]string{"@box@a": one}},
		"no operation":  {func(c ctx) error { _, err := unknown.Call(c, "a", none{}).Await(); return err }, durable.NotFound, `entity Box has no operation "Unknown"`, map[string]string{"@box@a": one}},
		"no function":   {func(c ctx) error { _, err := nobody.Call(c, "a", none{}).Await(); return err }, durable.NotFound, "The function 'nobody' doesn't exist", map[string]string{"@box@a": one}},
		"wrong input":   {func(c ctx) error { _, err := wrong.Call(c, "a", 5).Await(); return err }, durable.NotUnderstood, "the input of operation Put", map[string]string{"@box@a": one}},
		"wrong state":   {func(c ctx) error { _, err := numbered.Call(c, "a", none{}).Await(); return err }, durable.NotUnderstood, "the state of entity Box", map[string]string{"@box@a": one}},
		"deletion":      {func(c ctx) error { _, err := drop.Call(c, "a", none{}).Await(); return err }, 0, "", map[string]string{}},
		"deletion none": {func(c ctx) error { _, err := drop.Call(c, "new", none{}).Await(); return err }, 0, "", map[string]string{"@box@a": one}},
		"actions": {func(c ctx) error {
			_, err := pass.Call(c, "a", "b").Await()
			durable.Timer(c, time.Hour).Await()
			return err
		}, 0, "", map[string]string{"@box@a": `{"Items":null}`, "@box@b": one, "@box@audit": `{"Items":["b"]}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := boxEnv(t)
			env.SetState(boxes.ID("a"), box{Items: []string{"one"}})
			var got error
			r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (any, error) {
				got = c.call(ctx)
				return nil, nil
			}), nil)
			if r.Status != api.RUNTIME_STATUS_COMPLETED || !maps.Equal(r.Entities, c.want) {
				t.Errorf("%s %s: %v", r.Status, r.Failure, cmp.Diff(c.want, r.Entities))
			}
			var failed *durable.TaskError
			switch {
			case c.says == "":
				if got != nil {
					t.Error(got)
				}
			case !errors.As(got, &failed) || failed.Kind != c.kind || !strings.HasPrefix(failed.Message, c.says):
				t.Errorf("%#v, want kind %d, %s", got, c.kind, c.says)
			}
		})
	}
}

// TestEntityMessagesKeepTheirOrder: what an orchestrator sends to one entity comes in the order of its calls.
func TestEntityMessagesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	r := boxEnv(t).Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) ([]string, error) {
		put.Signal(ctx, "a", "late", durable.At(ctx.CurrentTimeUtc.Add(time.Hour)))
		put.Signal(ctx, "a", "1")
		second := put.Call(ctx, "a", "2")
		put.Signal(ctx, "a", "3")
		if _, err := second.Await(); err != nil {
			return nil, err
		}
		before, err := look.Call(ctx, "a", none{}).Await()
		if err != nil {
			return nil, err
		}
		_, err = durable.Timer(ctx, 2*time.Hour).Await()
		after, err2 := look.Call(ctx, "a", none{}).Await()
		return append(before, after...), errors.Join(err, err2)
	}), nil)
	if want := `["1","2","3","1","2","3","late"]`; r.Output != want {
		t.Errorf("%s %s, want %s", r.Output, r.Failure, want)
	}
}

// TestEntityLocks: while one holds the lock, what others want waits; however the holder ends, it is given back.
func TestEntityLocks(t *testing.T) {
	t.Parallel()
	hold := durable.OrchestratorName[string, any]("Hold")
	const held = time.Hour
	for _, how := range []string{"release", "forget", "panic", "fail", "again", "terminate"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			env := boxEnv(t)
			env.Orchestrator("Hold", durable.Orchestrator(func(ctx *task.OrchestrationContext, how string) (any, error) {
				if how == "" {
					return nil, nil
				}
				lock := durable.LockEntities(ctx, boxes.ID("b"), boxes.ID("a"), boxes.ID("b"))
				_, err := put.Call(ctx, "a", "holder").Await()
				if how == "terminate" {
					_, _ = durable.WaitForEvent[any](ctx, "never", 0).Await()
				}
				if _, outside := put.Call(ctx, "c", "x").Await(); outside == nil || !strings.Contains(outside.Error(), "has not locked") {
					return nil, fmt.Errorf("a call of an entity that is not locked: %v", outside)
				}
				_, err2 := durable.Timer(ctx, held).Await()
				switch how {
				case "release":
					lock.Release()
					lock.Release()
				case "panic":
					defer lock.Release()
					panic("bang")
				case "fail":
					return nil, errors.New("failed")
				case "again":
					hold.ContinueAsNew(ctx, "")
				}
				return nil, errors.Join(err, err2)
			}))
			r := env.Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
				child := hold.Call(ctx, how, durable.WithInstanceID("holder"))
				_, _ = durable.Timer(ctx, time.Minute).Await()
				if how == "terminate" {
					durable.Timer(ctx, held-time.Minute)
				}
				others := put.Call(ctx, "b", "other")
				if durable.WhenAny(child, others) == 1 {
					return "", errors.New("the lock does not hold others off")
				}
				_, err := others.Await()
				return ctx.CurrentTimeUtc.Sub(durabletest.Begin).String(), err
			}), nil)
			if how == "terminate" { // nobody terminates the child here: the other waits for ever
				if r.Status != api.RUNTIME_STATUS_RUNNING || r.Entities["@box@b"] != "" {
					t.Errorf("%s %s %v", r.Status, r.Failure, r.Entities)
				}
				return
			}
			if r.Output != `"1h0m0s"` || r.Entities["@box@a"] != `{"Items":["holder"]}` || r.Entities["@box@b"] != `{"Items":["other"]}` {
				t.Errorf("%s %s %v", r.Output, r.Failure, r.Entities)
			}
		})
	}
}

// TestEntityMisuse: what cannot be is told, and does not hang.
func TestEntityMisuse(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(*task.OrchestrationContext) error{
		"holds a lock and asks for another": func(ctx *task.OrchestrationContext) error {
			durable.LockEntities(ctx, boxes.ID("a"))
			durable.LockEntities(ctx, boxes.ID("b"))
			return nil
		},
		"of no entities":                         func(ctx *task.OrchestrationContext) error { durable.LockEntities(ctx); return nil },
		"durable: not a good instance id":        func(ctx *task.OrchestrationContext) error { durable.LockEntities(ctx, boxes.ID("a/b")); return nil },
		"not a good instance id: the key":        func(ctx *task.OrchestrationContext) error { _, err := put.Call(ctx, "", "x").Await(); return err },
		"durable: not a good instance id: the k": func(ctx *task.OrchestrationContext) error { put.Signal(ctx, "#", "x"); return nil },
		"not a good instance id: the entity": func(ctx *task.OrchestrationContext) error {
			_, err := put.Call(ctx, strings.Repeat("k", 97), "x").Await()
			return err
		},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			r := boxEnv(t).Run(durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (any, error) { return nil, f(ctx) }), nil)
			if r.Status != api.RUNTIME_STATUS_FAILED || !strings.Contains(r.Failure, want) {
				t.Errorf("%s %q, want %q", r.Status, r.Failure, want)
			}
		})
	}
}

func TestEntityProblems(t *testing.T) {
	t.Parallel()
	for want, class := range map[string]*durable.EntityClass{
		"no operations":          durable.Entity(),
		"two operations put":     durable.Entity(put, durable.NewOperation(boxes, "put", func(*box, context.Context, int) (int, error) { return 0, nil })),
		"others are of Box":      durable.Entity(put, Add),
		"its name, its entity o": durable.Entity(durable.NewOperation[box, int, int](boxes, "x", nil)),
	} {
		if class.Problem == nil || !strings.Contains(class.Problem.Error(), want) {
			t.Errorf("%v, want %q", class.Problem, want)
		}
	}
}

// TestOperationIsAFunction: an operation can be called as the Go function that it is.
func TestOperationIsAFunction(t *testing.T) {
	t.Parallel()
	c := &counter{Value: 1}
	if n, err := c.Add(t.Context(), 2); n != 3 || err != nil || c.Value != 3 {
		t.Error(n, err, c)
	}
	if id := durable.Current(t.Context()).ID(); id.Key != "test" {
		t.Error(id)
	}
}
