package handler

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
)

// DataDirVariable names the setting that chooses the data directory.
const DataDirVariable = "APP_DATA_DIR"

// DataDir returns the directory for what an app keeps on this machine, as an absolute path: the setting APP_DATA_DIR, else one
// for this app root in the user's state directory (XDG_STATE_HOME or ~/.local/state, ~/Library/Application Support,
// %LOCALAPPDATA%). It lies outside of the app root, because the Functions host restarts when something appears there. The
// handler and the commands get the same one, so that what one imports the other finds.
//
// Without a home directory, and in Azure, where the home directory is a file share on which SQLite cannot lock, it is a
// directory of this user's in the temporary directory; an error says what to set if that belongs to another user. Otherwise
// nothing is made: the directory need not exist.
func DataDir(root string, getenv func(string) string) (string, error) {
	if dir := getenv(DataDirVariable); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(root))
	name := unsafeInName.ReplaceAllString(filepath.Base(root), "_") + "-" + hex.EncodeToString(hash[:4])
	if state := stateDir(getenv); state != "" && getenv("WEBSITE_SITE_NAME") == "" {
		return filepath.Join(state, "durablefunctions", name), nil
	}
	private := filepath.Join(os.TempDir(), fmt.Sprintf("durablefunctions-%d", os.Getuid()))
	if err := makePrivate(private); err != nil {
		return "", fmt.Errorf("there is no home directory, and %s cannot be used for data: %w: set %s to a directory", private, err, DataDirVariable)
	}
	return filepath.Join(private, name), nil
}

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// stateDir returns where programs of this user keep their state, "" if that is not known.
func stateDir(getenv func(string) string) string {
	home := getenv("HOME")
	switch {
	case runtime.GOOS == "windows":
		return getenv("LOCALAPPDATA")
	case filepath.IsAbs(getenv("XDG_STATE_HOME")):
		return getenv("XDG_STATE_HOME")
	case !filepath.IsAbs(home):
		return ""
	case runtime.GOOS == "darwin":
		return filepath.Join(home, "Library", "Application Support")
	}
	return filepath.Join(home, ".local", "state")
}

// makePrivate makes a directory that only this user can enter, or makes sure that it is one.
func makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return errors.New("it is not a directory")
	case !isMine(info):
		return errors.New("it belongs to another user, or others can write to it")
	}
	return nil
}
