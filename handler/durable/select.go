package durable

// Case is a task that Select waits for, with what to do when it is the first to end. On makes it.
type Case[R any] struct {
	task Awaitable
	run  func() (R, error)
}

// On makes the case of a task: f gets the task's result, or the error with which it failed.
func On[T, R any](t *Task[T], f func(T, error) (R, error)) Case[R] {
	return Case[R]{t, func() (R, error) { return f(t.value()) }}
}

// Select waits until one of the tasks has ended, with or without an error, calls the function of its case and returns what that
// returns. The tasks may have different types. The others go on, see WhenAny. Select panics if there are no cases.
func Select[R any](cases ...Case[R]) (R, error) {
	tasks := make([]Awaitable, len(cases))
	for i, c := range cases {
		tasks[i] = c.task
	}
	return cases[WhenAny(tasks...)].run()
}
