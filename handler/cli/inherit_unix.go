//go:build unix

package cli

import (
	"net"
	"os"
	"os/exec"
)

// canInherit says whether a process can hand on its listener, so that callers wait between two builds instead of being
// refused.
const canInherit = true

// bequeath hands a listener on to a process that is started later, as its first file after the standard ones.
func bequeath(cmd *exec.Cmd, l net.Listener) (done func(), err error) {
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{f}
	return func() { f.Close() }, nil
}

func inheritedListener() (net.Listener, error) {
	f := os.NewFile(3, "listener")
	defer f.Close()
	return net.FileListener(f)
}
