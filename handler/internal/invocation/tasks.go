package invocation

import (
	"fmt"
	"runtime/debug"
)

// PanicError says that a task of an invocation panicked.
type PanicError struct{ Value any }

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Go runs a task of the invocation in a goroutine. Outside of an invocation nobody waits for the task, and its panic ends the
// process like any other.
func (i *Invocation) Go(f func() error) {
	if i.outside {
		go func() {
			if err := f(); err != nil {
				i.Logger.Error("a goroutine of the function failed", "error", err)
			}
		}()
		return
	}
	i.tasks.Go(func() {
		err := error(&PanicError{"the goroutine ended itself"})
		defer func() {
			if p := recover(); p != nil {
				err = &PanicError{p}
				i.Logger.Error("a goroutine of the function panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
			i.fail(err)
		}()
		err = f()
	})
}

func (i *Invocation) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failure == nil {
		i.failure = err
	}
}

// Wait waits for the tasks and returns the error of the first that failed.
func (i *Invocation) Wait() error {
	i.tasks.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failure
}
