package durable_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/microsoft/durabletask-go/task"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/durable/durabletest"
)

// counter is the state of an entity.
type counter struct{ Value int }

func (c *counter) Add(_ context.Context, n int) (int, error) {
	c.Value += n
	return c.Value, nil
}

// Counter is the entity, its folder's name. Add is an operation of it; in main it is registered with
//
//	app.Entity("Counter", durable.Entity(Add))
const Counter = durable.EntityName[counter]("Counter")

var Add = durable.NewOperation(Counter, "Add", (*counter).Add)

func ExampleEntity() {
	count := func(ctx *task.OrchestrationContext, _ any) (int, error) {
		Add.Signal(ctx, "visits", 40) // nobody waits for it
		return Add.Call(ctx, "visits", 2).Await()
	}
	env := durabletest.New(exampleT{})
	env.Entity("Counter", durable.Entity(Add))
	r := env.Run(durable.Orchestrator(count), nil)
	fmt.Println(r.Output, r.Entities)
	// Output: 42 map[@counter@visits:{"Value":42}]
}

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

const Account = durable.EntityName[account]("Account")

var (
	Deposit  = durable.NewOperation(Account, "Deposit", (*account).Deposit)
	Withdraw = durable.NewOperation(Account, "Withdraw", (*account).Withdraw)
)

type transfer struct {
	From, To string
	Amount   int
}

// While the orchestration holds both accounts, nobody sees the money in neither.
func ExampleLockEntities() {
	move := func(ctx *task.OrchestrationContext, t transfer) (string, error) {
		lock := durable.LockEntities(ctx, Account.ID(t.From), Account.ID(t.To))
		defer lock.Release()
		if _, err := Withdraw.Call(ctx, t.From, t.Amount).Await(); err != nil {
			return "refused: " + err.Error(), nil
		}
		_, err := Deposit.Call(ctx, t.To, t.Amount).Await()
		return "done", err
	}
	for _, amount := range []int{70, 700} {
		env := durabletest.New(exampleT{})
		env.Entity("Account", durable.Entity(Deposit, Withdraw))
		env.SetState(Account.ID("ann"), account{Balance: 100})
		r := env.Run(durable.Orchestrator(move), transfer{From: "ann", To: "bob", Amount: amount})
		fmt.Println(r.Output, r.Entities)
	}
	// Output:
	// "done" map[@account@ann:{"Balance":30} @account@bob:{"Balance":70}]
	// "refused: not enough money" map[@account@ann:{"Balance":100}]
}
