package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"example.com/durablefunctions/handler"
)

// DataFlag is the flag --data, which all commands share.
type DataFlag struct {
	Data string `help:"Directory for all that is kept. Default: setting APP_DATA_DIR, else one for this app in your state directory." placeholder:"DIR" complete:"directory"`
}

// Dir returns the data directory. If that is still empty, it moves there what an older version kept in the app root.
func (f DataFlag) Dir(e *Environment) (string, error) {
	if f.Data != "" {
		return filepath.Abs(f.Data)
	}
	return DataDir(".", e.Stderr)
}

// oldDataDir is where older versions kept their data, in the app root.
const oldDataDir = ".local"

// DataDir returns the data directory of an app root, as handler.DataDir does. It moves the data of an older version from the
// app root to it and says so in one line, unless the old data is in use or the new directory already holds data.
func DataDir(root string, log io.Writer) (string, error) {
	dir, err := handler.DataDir(root, os.Getenv)
	if err != nil {
		return "", err
	}
	old := filepath.Join(root, oldDataDir)
	if info, err := os.Stat(old); err != nil || !info.IsDir() {
		return dir, nil
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return dir, nil
	}
	if err := takeOver(old, dir); err != nil {
		return "", fmt.Errorf("the data in %s cannot be moved to %s: %w: move it yourself, or set %s", old, dir, err, handler.DataDirVariable)
	}
	fmt.Fprintf(log, "the data in %s is now in %s\n", old, dir)
	return dir, nil
}

// takeOver moves a data directory that nobody uses. It copies first, because the move may cross file systems.
func takeOver(old, dir string) error {
	lock := flock.New(filepath.Join(old, "lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return err
	case !locked:
		return errors.New("another process uses it")
	}
	defer lock.Unlock()
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), ".moving-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, os.DirFS(old)); err != nil {
		return err
	}
	if err := filepath.WalkDir(temporary, onlyMine); err != nil {
		return err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// onlyMine removes the access of other users to a file or a directory.
func onlyMine(path string, entry fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case entry.IsDir():
		return os.Chmod(path, 0o700)
	}
	return os.Chmod(path, 0o600)
}
