package trigger

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

// MaxBlob is the size of the largest blob that is read.
const MaxBlob = 64 << 20

// Blobs finds new and changed files below Dir/<container>, for the functions with a blobTrigger.
type Blobs struct {
	Functions []config.Function
	Dir       string
	Receipts  string // path of the file that records what was found
	Log       *slog.Logger
	// Found is called once for each version of a file. name is container/name. After an error it is called again.
	Found func(ctx context.Context, function, name string, content []byte) error

	receipts map[string]string // version by function and name
	seen     map[string]string // version at the last look
}

// Prepare creates the folders and reads the receipts.
func (b *Blobs) Prepare() error {
	b.receipts, b.seen = map[string]string{}, map[string]string{}
	if text, err := os.ReadFile(b.Receipts); err == nil {
		_ = json.Unmarshal(text, &b.receipts) // if the file is damaged, all blobs count as new
	}
	for _, f := range b.Functions {
		container, _ := f.Trigger().BlobPath()
		if !filepath.IsLocal(container) {
			return fmt.Errorf("%s/function.json: the path %q has no container that this host can make a folder of", f.Name, f.Trigger().Property("path"))
		}
		if err := os.MkdirAll(filepath.Join(b.Dir, container), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// Run looks for files every second until ctx ends.
func (b *Blobs) Run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		b.Look(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Look looks for files once. It reports a file only if two looks in a row see the same version, because a program may still be
// writing the file.
func (b *Blobs) Look(ctx context.Context) {
	for _, f := range b.Functions {
		container, match := f.Trigger().BlobPath()
		root := filepath.Join(b.Dir, container)
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), ".") {
				return nil
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return nil
			}
			name = filepath.ToSlash(name)
			if _, ok := match(name); ok {
				b.look(ctx, f.Name, container+"/"+name, path)
			}
			return ctx.Err()
		})
	}
}

func (b *Blobs) look(ctx context.Context, function, name, path string) {
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	key, version := function+" "+name, fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
	before := b.seen[key]
	b.seen[key] = version
	if before != version || b.receipts[key] == version {
		return
	}
	if info.Size() > MaxBlob {
		b.Log.Error("a blob is too large for this host, and is left out", "blob", name, "bytes", info.Size(), "limit", MaxBlob)
	} else {
		content, err := os.ReadFile(path)
		if err == nil {
			err = b.Found(ctx, function, name, content)
		}
		if err != nil {
			b.Log.Error("a blob could not be taken, trying again", "blob", name, "error", err)
			return
		}
	}
	b.receipts[key] = version
	if err := writeJSON(b.Receipts, b.receipts); err != nil {
		b.Log.Error("what blobs were found is not kept: they will come again", "error", err)
	}
}
