//go:build unix

package handler

import (
	"os"
	"time"
)

// watchParent returns a function that returns when the process that started this one has ended: a process whose parent
// ends gets another one, and never otherwise. One that has had process 1 for a parent from the start (in a container, or
// under init) has no host to wait for.
func watchParent() (wait func()) {
	parent := os.Getppid()
	if parent == 1 {
		return func() { select {} }
	}
	return func() {
		for os.Getppid() == parent {
			time.Sleep(500 * time.Millisecond)
		}
	}
}
