//go:build !unix

package handler

import "io/fs"

// isMine: the temporary directory is the user's own.
func isMine(fs.FileInfo) bool { return true }
