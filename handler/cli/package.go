package cli

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

// appPackage collects what the host needs of an app: host.json, the function.json files, the binary, and nothing else.
type appPackage struct {
	root  string
	host  string // the file that becomes host.json
	dir   string // the directory in which it is put together
	files []packaged
}

type packaged struct {
	name string // below dir
	mode fs.FileMode
}

// extensionsFile exists in an app that brings its own extensions instead of a bundle.
var extensionsFile = filepath.Join("bin", "extensions.json")

// add copies the app's files, except the binary.
func (p *appPackage) add(app *config.App, include []string) error {
	if err := p.copy(p.host, "host.json"); err != nil {
		return err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(app.Functions)) {
		names = append(names, filepath.Join(name, "function.json"))
		if script := app.Functions[name].ScriptFile; script != "" {
			names = append(names, filepath.Join(name, filepath.FromSlash(script)))
		}
	}
	for _, name := range app.Disabled {
		names = append(names, filepath.Join(name, "function.json"))
	}
	if _, err := os.Stat(filepath.Join(p.root, extensionsFile)); err == nil {
		include = append(include, "bin")
	}
	for _, path := range include {
		if !filepath.IsLocal(path) {
			return fmt.Errorf("--include %s: it must be a path below the app root", path)
		}
		err := filepath.WalkDir(filepath.Join(p.root, path), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(p.root, file)
			names = append(names, name)
			return err
		})
		if err != nil {
			return fmt.Errorf("--include %s: %w", path, err)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%s lies outside of the app root: move it below", name)
		}
		if err := p.copy(filepath.Join(p.root, name), name); err != nil {
			return err
		}
	}
	return nil
}

func (p *appPackage) copy(from, name string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	target := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o777); err != nil {
		return err
	}
	p.files = append(p.files, packaged{name, 0o644})
	return os.WriteFile(target, text, 0o666)
}

// zipTime is the time of every file in the zip, so that the same app always makes the same zip.
var zipTime = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// zip writes the files with the modes that they need: the host runs the binary directly from the unpacked zip.
func (p *appPackage) zip(file string) (err error) {
	slices.SortFunc(p.files, func(a, b packaged) int { return strings.Compare(a.name, b.name) })
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := zip.NewWriter(f)
	for _, entry := range p.files {
		if err := p.zipOne(w, entry); err != nil {
			return err
		}
	}
	return w.Close()
}

func (p *appPackage) zipOne(w *zip.Writer, entry packaged) error {
	header := &zip.FileHeader{Name: filepath.ToSlash(entry.name), Method: zip.Deflate, Modified: zipTime}
	header.SetMode(entry.mode)
	to, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	from, err := os.Open(filepath.Join(p.dir, entry.name))
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.Copy(to, from)
	return err
}
