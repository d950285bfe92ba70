package durable

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(suite{m},
		goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener")) // durabletask-go's SQLite backend cannot be closed
}

// suite ends with the connections that are kept for as long as the process lives: only what else there is, is a leak.
type suite struct{ *testing.M }

func (s suite) Run() int {
	code := s.M.Run()
	endpoints.Lock()
	defer endpoints.Unlock()
	for _, c := range endpoints.conns {
		_ = c.Close()
	}
	return code
}
