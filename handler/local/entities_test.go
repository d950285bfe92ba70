package local_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/local"
)

type account struct{ Balance int }

func (a *account) Deposit(_ context.Context, amount int) (int, error) {
	a.Balance += amount
	return a.Balance, nil
}

func (a *account) Withdraw(_ context.Context, amount int) (int, error) {
	if a.Balance < amount {
		return 0, errors.New("not enough money")
	}
	a.Balance -= amount
	return a.Balance, nil
}

func (a *account) Close(ctx context.Context, _ any) (int, error) {
	self := durable.Current(ctx)
	if a.Balance > 0 {
		if err := deposit.Send(ctx, self, "bank", a.Balance); err != nil {
			return 0, err
		}
	}
	if _, err := self.Start("Audit", "audit-"+self.ID().Key, self.ID().Key); err != nil {
		return 0, err
	}
	self.Delete()
	return a.Balance, nil
}

const accounts = durable.EntityName[account]("Account")

var (
	deposit  = durable.NewOperation(accounts, "Deposit", (*account).Deposit)
	withdraw = durable.NewOperation(accounts, "Withdraw", (*account).Withdraw)
	shut     = durable.NewOperation(accounts, "Close", (*account).Close)
	nowhere  = durable.NewOperation(durable.EntityName[int]("Nowhere"), "Get", func(*int, context.Context, any) (int, error) { return 0, nil })
)

type transfer struct {
	From, To string
	Amount   int
}

// move moves money between two accounts. Nobody else sees them meanwhile.
func move(ctx *task.OrchestrationContext, t transfer) (string, error) {
	lock := durable.LockEntities(ctx, accounts.ID(t.From), accounts.ID(t.To))
	defer lock.Release()
	if _, err := withdraw.Call(ctx, t.From, t.Amount).Await(); err != nil {
		return err.Error(), nil
	}
	_, err := deposit.Call(ctx, t.To, t.Amount).Await()
	return "done", err
}

// bank is a local host with accounts, and with a function that gives a test the durable client.
type bank struct {
	*local.Host
	t   *testing.T
	dir string
	do  func(context.Context, *durable.Client) error
}

func openBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{t: t, dir: t.TempDir()}
	for name, bindings := range map[string]string{
		"Account": `{"type":"entityTrigger","direction":"in","name":"context"}`,
		"Move":    `{"type":"orchestrationTrigger","direction":"in","name":"context"}`,
		"Audit":   `{"type":"orchestrationTrigger","direction":"in","name":"context"}`,
		"Lose":    `{"type":"orchestrationTrigger","direction":"in","name":"context"}`,
		"Do":      `{"type":"serviceBusTrigger","direction":"in","name":"item","queueName":"q"},{"type":"durableClient","direction":"in","name":"starter"}`,
	} {
		write(b.dir, name+"/function.json", `{"bindings":[`+bindings+`]}`)
	}
	write(b.dir, "host.json", `{"version":"2.0"}`)
	b.open()
	return b
}

func (b *bank) open() {
	b.t.Helper()
	app := handler.New()
	app.Entity("Account", durable.Entity(deposit, withdraw, shut))
	app.Orchestrator("Move", durable.Orchestrator(move))
	app.Orchestrator("Audit", durable.Orchestrator(func(_ *task.OrchestrationContext, key string) (string, error) { return key, nil }))
	app.Orchestrator("Lose", durable.Orchestrator(func(ctx *task.OrchestrationContext, _ any) (string, error) {
		_, err := nowhere.Call(ctx, "x", nil).Await()
		var failed *durable.TaskError
		if !errors.As(err, &failed) || failed.Kind != durable.NotFound {
			return "", fmt.Errorf("a call of no entity: %w", err)
		}
		return failed.Message, nil
	}))
	app.Trigger("Do", func(ctx context.Context, in *handler.Invocation) error {
		c, err := in.DurableClient("starter")
		if err != nil {
			return err
		}
		return b.do(ctx, c)
	})
	getenv := func(string) string { return "" }
	h, err := app.Handler(handler.Options{Root: b.dir, Environ: []string{}, Getenv: getenv, Stdout: b.t.Output(), Stderr: b.t.Output()})
	if err == nil {
		b.Host, err = local.Open(b.t.Context(), local.Options{Root: b.dir, DataDir: filepath.Join(b.dir, "data"), Handler: h, Environ: []string{}, Settings: getenv})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	host := b.Host
	b.t.Cleanup(func() { _ = host.Close(context.Background()) })
}

// client calls f with a durable client.
func (b *bank) client(f func(context.Context, *durable.Client) error) {
	b.t.Helper()
	b.do = f
	if _, err := b.Deliver(b.t.Context(), "Do", local.Message{Body: []byte("x")}); err != nil {
		b.t.Fatal(err)
	}
}

// balances returns the accounts that exist.
func (b *bank) balances() map[string]int {
	b.t.Helper()
	got := map[string]int{}
	b.client(func(ctx context.Context, c *durable.Client) error {
		for e, err := range c.Entities(ctx, durable.EntityFilter{Name: "Account", State: true, PageSize: 1}) {
			if err != nil {
				return err
			}
			state, exists, err := accounts.Read(ctx, c, e.ID.Key)
			if err != nil {
				return err
			}
			if exists { // and was not deleted since the list was made
				got[e.ID.Key] = state.Balance
			}
		}
		return nil
	})
	return got
}

// settles waits until the accounts have these balances.
func (b *bank) settles(want map[string]int) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got := b.balances()
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the accounts are %v, want %v", got, want)
		}
	}
}

func (b *bank) deposit(key string, amount int, options ...durable.SignalOption) {
	b.t.Helper()
	b.client(func(ctx context.Context, c *durable.Client) error {
		return deposit.Send(ctx, c, key, amount, options...)
	})
}

// TestEntityTransfers: transfers between the same accounts, in both directions at once, neither hang nor lose money.
func TestEntityTransfers(t *testing.T) {
	t.Parallel()
	b := openBank(t)
	b.deposit("ann", 100)
	b.deposit("bob", 100)
	b.settles(map[string]int{"ann": 100, "bob": 100})
	const n = 6
	b.client(func(ctx context.Context, c *durable.Client) error {
		for i := range n {
			there := transfer{"ann", "bob", 10}
			if i%2 == 1 {
				there = transfer{"bob", "ann", 5}
			}
			if _, err := c.Start(ctx, "Move", fmt.Sprint("move-", i), there); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range n {
		instance, err := b.Wait(t.Context(), fmt.Sprint("move-", i))
		if err != nil || instance.Output != `"done"` {
			t.Errorf("%+v %v", instance, err)
		}
	}
	b.deposit("ann", 1) // nobody holds a lock any more
	b.settles(map[string]int{"ann": 86, "bob": 115})
}

// TestEntitySignals: signals at once, later, from entity to entity, and with an orchestration that an entity starts. What was
// there before the host was closed is there afterwards.
func TestEntitySignals(t *testing.T) {
	t.Parallel()
	b := openBank(t)
	b.deposit("ann", 1)
	b.deposit("ann", 10, durable.At(time.Now().Add(2*time.Second)))
	b.deposit("Ann", 100)
	b.settles(map[string]int{"ann": 1, "Ann": 100})
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.settles(map[string]int{"ann": 11, "Ann": 100})
	b.client(func(ctx context.Context, c *durable.Client) error { return shut.Send(ctx, c, "ann", nil) })
	b.settles(map[string]int{"bank": 11, "Ann": 100})
	if audit, err := b.Wait(t.Context(), "audit-ann"); err != nil || audit.Output != `"ann"` || audit.Status != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("%+v %v", audit, err)
	}
	b.client(func(ctx context.Context, c *durable.Client) error {
		removed, released, err := c.CleanEntities(ctx)
		if removed != 1 || released != 0 {
			t.Errorf("%d removed, %d released", removed, released)
		}
		if _, exists, err := accounts.Read(ctx, c, "ann"); exists || err != nil {
			t.Errorf("a closed account: %v %v", exists, err)
		}
		_, err2 := c.Start(ctx, "Lose", "lose", nil)
		return errors.Join(err, err2)
	})
	if lose, err := b.Wait(t.Context(), "lose"); err != nil || lose.Status != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("%+v %v", lose, err)
	}
}

type sales struct{ Orders, Total int }

func (s *sales) Add(_ context.Context, amount int) (sales, error) {
	s.Orders++
	s.Total += amount
	return *s, nil
}

// Sales adds up the orders of a day, its key.
const Sales = durable.EntityName[sales]("Sales")

var addOrder = durable.NewOperation(Sales, "Add", (*sales).Add)

// An aggregator: each message of a queue signals an entity, which adds them up.
func Example_aggregator() {
	root, err := os.MkdirTemp("", "app")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(root)
	write(root, "host.json", `{"version":"2.0"}`)
	write(root, "Sales/function.json", `{"bindings":[{"type":"entityTrigger","direction":"in","name":"context"}]}`)
	write(root, "Order/function.json", `{"bindings":[{"type":"serviceBusTrigger","direction":"in","name":"order","queueName":"orders"},{"type":"durableClient","direction":"in","name":"client"}]}`)

	app := handler.New()
	app.Entity("Sales", durable.Entity(addOrder))
	app.Trigger("Order", func(ctx context.Context, in *handler.Invocation) error {
		client, err := in.DurableClient("client")
		if err != nil {
			return err
		}
		if in.Text("order") == "report" {
			for {
				today, _, err := Sales.Read(ctx, client, "2026-11-26")
				if err != nil || today.Orders == 3 {
					fmt.Println(today)
					return err
				}
			}
		}
		var amount int
		if _, err := fmt.Sscan(in.Text("order"), &amount); err != nil {
			return err
		}
		return addOrder.Send(ctx, client, "2026-11-26", amount)
	})
	functions, err := app.Handler(handler.Options{Root: root})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	host, err := local.Open(ctx, local.Options{Root: root, DataDir: filepath.Join(root, ".local"), Handler: functions})
	if err != nil {
		panic(err)
	}
	for _, message := range []string{"10", "20", "12", "report"} {
		if _, err := host.Deliver(ctx, "Order", local.Message{Body: []byte(message)}); err != nil {
			panic(err)
		}
	}
	if err := host.Close(ctx); err != nil {
		panic(err)
	}
	// Output: {3 42}
}
