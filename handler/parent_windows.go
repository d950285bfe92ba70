package handler

import "os"

// watchParent returns a function that returns when the process that started this one has ended.
func watchParent() (wait func()) {
	parent, err := os.FindProcess(os.Getppid())
	return func() {
		if err == nil {
			if _, err := parent.Wait(); err == nil {
				return
			}
		}
		select {} // it cannot be watched
	}
}
