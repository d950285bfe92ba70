package handler

import "os"

// awaitParent calls gone when the process that started this one has ended.
func awaitParent(gone func()) {
	parent, err := os.FindProcess(os.Getppid())
	if err != nil {
		return
	}
	if _, err := parent.Wait(); err == nil {
		gone()
	}
}
