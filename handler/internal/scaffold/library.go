package scaffold

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// library is the module that this package belongs to, in a form that a new app can use.
type library struct {
	path    string
	version string // published; empty if dir is set
	dir     string // the directory of a clone
}

// libraryPath returns the library's module path, even if the module has been renamed.
func libraryPath() string {
	return strings.TrimSuffix(reflect.TypeFor[library]().PkgPath(), "/handler/internal/scaffold")
}

// findLibrary finds the clone around the working directory, the clone from which this program was built, or the published
// version from which it was built.
func findLibrary() (library, error) {
	l := library{path: libraryPath()}
	if l.dir = cloneAround("."); l.dir != "" {
		return l, nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path != l.path {
				continue
			}
			if m.Replace != nil && m.Replace.Version == "" {
				m.Version, l.dir = "", m.Replace.Path
			}
			l.version = strings.TrimSuffix(m.Version, "+dirty")
		}
	}
	if l.dir == "" && (l.version == "" || l.version == "(devel)") {
		return l, fmt.Errorf("it is not known where %s is: run this in a clone of it", l.path)
	}
	return l, nil
}

// cloneAround returns the directory of the library's go.mod at or above dir, "" if there is none.
func cloneAround(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && modfile.ModulePath(text) == libraryPath() {
			return dir
		}
		if filepath.Dir(dir) == dir {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}

// direct lists the modules that the templates import in addition to the library.
var direct = []string{"github.com/microsoft/durabletask-go"}

// moduleFiles adds go.mod and, if it is known without a network, go.sum.
func (l library) moduleFiles(module string, files map[string][]byte) error {
	if l.dir == "" {
		files["go.mod"] = fmt.Appendf(nil, "module %s\n\ngo 1.26\n\nrequire %s %s\n", module, l.path, l.version)
		return nil
	}
	text, err := os.ReadFile(filepath.Join(l.dir, "go.mod"))
	if err != nil {
		return fmt.Errorf("the library's clone is gone: %w", err)
	}
	theirs, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(l.dir, "go.sum"))
	if err != nil {
		return err
	}
	var f modfile.File
	err = errors.Join(f.AddModuleStmt(module), f.AddGoStmt(theirs.Go.Version))
	f.AddNewRequire(l.path, "v0.0.0", false)
	for _, r := range theirs.Require { // everything that the build needs, as go mod tidy would list it
		f.AddNewRequire(r.Mod.Path, r.Mod.Version, !slices.Contains(direct, r.Mod.Path))
	}
	if err = errors.Join(err, f.AddReplace(l.path, "", l.dir, "")); err != nil {
		return err
	}
	f.SetRequireSeparateIndirect(f.Require)
	f.Cleanup()
	files["go.sum"] = sums
	files["go.mod"], err = f.Format()
	return err
}
