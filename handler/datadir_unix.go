//go:build unix

package handler

import (
	"io/fs"
	"os"
	"syscall"
)

// isMine says whether a directory is this user's, and closed to all others.
func isMine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Getuid() && info.Mode().Perm()&0o077 == 0
}
