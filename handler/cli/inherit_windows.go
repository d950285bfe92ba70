package cli

import (
	"errors"
	"net"
	"os/exec"
)

// canInherit is false: on Windows a process cannot hand on its listener, so each build opens the port again.
const canInherit = false

func bequeath(_ *exec.Cmd, l net.Listener) (done func(), err error) {
	l.Close() // the port was free; the child takes it
	return func() {}, nil
}

func inheritedListener() (net.Listener, error) { return nil, errors.ErrUnsupported }
