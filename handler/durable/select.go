package durable

// Case is a task that Select waits for, with what to do when it is the first to end. On makes it.
type Case[R any] struct {
	task Awaitable
	run  func() (R, error)
}

// On is the case of a task: f gets its result, or the error with which it failed.
func On[T, R any](t *Task[T], f func(T, error) (R, error)) Case[R] {
	return Case[R]{t, func() (R, error) { return f(t.value()) }}
}

// Select waits for the first of the tasks, which may be of different types, to end, well or not, and returns what its
// function makes of it. The others go on, as WhenAny says. It panics if there are no cases.
func Select[R any](cases ...Case[R]) (R, error) {
	tasks := make([]Awaitable, len(cases))
	for i, c := range cases {
		tasks[i] = c.task
	}
	return cases[WhenAny(tasks...)].run()
}
