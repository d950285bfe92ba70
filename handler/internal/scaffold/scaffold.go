// Package scaffold makes new apps, and new functions in an app, from templates.
//
//	files, err := scaffold.New(scaffold.App{Dir: "shop", Module: "example.org/shop", With: []string{"queue"}})
//	added, err := scaffold.AddFunction("shop", "Charge", "activity")
//
// The generated code compiles, runs and has a test. Each trigger has a directory of templates with its name.
package scaffold

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"example.com/durablefunctions/handler/internal/config"
)

//go:embed templates
var templates embed.FS

// App is a new app.
type App struct {
	Dir    string   // does not exist yet, or is empty
	Module string   // its module path
	With   []string // triggers of additional functions, from Optional
}

// kind is a trigger that a function can have.
type kind struct {
	name     string // of the function in a new app
	what     string // what the function does, for the README
	register string // with %s for the name and the Go package
}

var kinds = map[string]kind{
	"orchestration": {"Process", "has each of its items worked on, all side by side, and counts", "app.Orchestrator(%q, durable.Orchestrator(%s.Run))"},
	"activity":      {"Work", "works on one item", "app.Activity(%q, durable.Activity(%s.Run))"},
	"entity":        {"Counter", "counts, for each key on its own", "app.Entity(%q, %s.Class)"},
	"http":          {"OnRequest", "POST /api/onrequest starts Process", "app.HTTP(%q, %s.Handler)"},
	"timer":         {"OnSchedule", "starts Process each night", "app.Timer(%q, %s.Run)"},
	"queue":         {"OnMessage", "a message of a Service Bus queue starts Process", "app.Queue(%q, %s.Run)"},
}

// Optional are the triggers that a new app can have functions for, in addition to its orchestration and activity.
var Optional = []string{"http", "queue", "timer", "entity"}

// Triggers returns the triggers that a new function can have.
func Triggers() []string { return slices.Sorted(maps.Keys(kinds)) }

// Function is a function as the templates see it.
type Function struct {
	Name, Package   string // its folder and its Go package
	Lower           string // Name in small letters, as a queue's name
	Trigger, What   string
	Module, Library string // module paths of the app and of the library

	Orchestrator              string // the one that it starts, if any
	Activity, ActivityPackage string // the one that it calls, if any
}

// Register is the line that registers the function in main.
func (f Function) Register() string { return fmt.Sprintf(kinds[f.Trigger].register, f.Name, f.Package) }

// appData is the data for the templates of the app.
type appData struct {
	Base, Module, Library, Hub string
	Functions                  []Function
}

// Has says whether a function has the trigger.
func (d appData) Has(trigger string) bool {
	return slices.ContainsFunc(d.Functions, func(f Function) bool { return f.Trigger == trigger })
}

// appFiles are the files of an app and their templates.
var appFiles = map[string]string{
	"host.json": "host.json", "local.settings.json": "local.settings.json", "local.settings.example.json": "local.settings.json",
	"main.go": "main.go", "main_test.go": "main_test.go", "README.md": "README.md", ".gitignore": "gitignore", ".funcignore": "funcignore",
	".github/workflows/ci.yml": "ci.yml",
}

// New makes an app and returns the files, sorted. It refuses a directory that is not empty.
func New(a App) ([]string, error) {
	if err := module.CheckImportPath(a.Module); err != nil {
		return nil, fmt.Errorf("%q cannot be a module's path: %w", a.Module, err)
	}
	if entries, err := os.ReadDir(a.Dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty: choose another directory", a.Dir)
	}
	lib, err := findLibrary()
	if err != nil {
		return nil, err
	}
	base := path.Base(a.Module)
	data := appData{Base: base, Module: a.Module, Library: lib.path, Hub: hubName(base)}
	for _, trigger := range append([]string{"orchestration", "activity"}, a.With...) {
		f := newFunction(kinds[trigger].name, trigger, a.Module, lib.path)
		f.Orchestrator, f.Activity, f.ActivityPackage = kinds["orchestration"].name, kinds["activity"].name, packageName(kinds["activity"].name)
		data.Functions = append(data.Functions, f)
	}
	files := map[string][]byte{}
	for name, from := range appFiles {
		if files[name], err = render("app/"+from, data); err != nil {
			return nil, err
		}
	}
	if data.Has("queue") {
		if files["sample.json"], err = render("app/sample.json", data); err != nil {
			return nil, err
		}
	}
	for _, f := range data.Functions {
		if err := f.render(files); err != nil {
			return nil, err
		}
	}
	if err := lib.moduleFiles(a.Module, files); err != nil {
		return nil, err
	}
	return write(a.Dir, files)
}

// Added is a function that AddFunction has made.
type Added struct {
	Files            []string
	Import, Register string // the lines for main.go
}

// AddFunction makes a function's folder in an app. A trigger that can start an orchestration starts the first one in the app.
func AddFunction(root, name, trigger string) (Added, error) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return Added{}, fmt.Errorf("%s has no go.mod: run this in the app's root", root)
	}
	app, err := config.Load(root, nil)
	if err != nil {
		return Added{}, err
	}
	if !config.ValidFunctionName(name) {
		return Added{}, fmt.Errorf("%q is not a function's name: a letter, then letters, digits, _ and -", name)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return Added{}, err
	}
	for _, e := range entries {
		if strings.EqualFold(e.Name(), name) {
			return Added{}, fmt.Errorf("there is %s already: choose another name", e.Name())
		}
	}
	f := newFunction(name, trigger, modfile.ModulePath(text), libraryPath())
	for _, other := range slices.Sorted(maps.Keys(app.Functions)) {
		if app.Functions[other].Trigger().Is(config.OrchestrationTrigger) {
			f.Orchestrator = cmp.Or(f.Orchestrator, other)
		}
	}
	files := map[string][]byte{}
	if err := f.render(files); err != nil {
		return Added{}, err
	}
	written, err := write(root, files)
	return Added{written, fmt.Sprintf("%s %q", f.Package, f.Module+"/"+f.Name), f.Register()}, err
}

func newFunction(name, trigger, module, library string) Function {
	return Function{Name: name, Package: packageName(name), Lower: strings.ToLower(name), Trigger: trigger, What: kinds[trigger].what, Module: module, Library: library}
}

// packageName returns the Go package of a function. It avoids the names that main uses.
func packageName(function string) string {
	name := strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(function))
	if token.IsKeyword(name) || slices.Contains([]string{"main", "init", "fmt", "io", "os", "app", "err", "error", "string", "handler", "cli", "durable", "task", "context", "json", "errors", "hex", "sha256", "testing", "durabletest"}, name) {
		name += "function"
	}
	return name
}

var notInHub = regexp.MustCompile(`[^A-Za-z0-9]`)

// hubName returns a name for the task hub that Azure Storage accepts.
func hubName(app string) string {
	name := "Hub" + notInHub.ReplaceAllString(app, "")
	return name[:min(len(name), 45)]
}

// render adds the function's files.
func (f Function) render(files map[string][]byte) error {
	dir := "templates/" + f.Trigger
	entries, err := fs.ReadDir(templates, dir)
	if err != nil {
		return fmt.Errorf("there is no trigger %q: choose one of %s", f.Trigger, strings.Join(Triggers(), ", "))
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".tmpl")
		text, err := render(f.Trigger+"/"+name, f)
		if err != nil {
			return err
		}
		files[f.Name+"/"+strings.Replace(name, "function", f.Package, strings.Count(name, ".go"))] = text
	}
	return nil
}

// render executes a template; Go code comes out formatted.
func render(name string, data any) ([]byte, error) {
	t, err := template.ParseFS(templates, "templates/"+name+".tmpl")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, data); err != nil {
		return nil, err
	}
	if path.Ext(name) != ".go" {
		return text.Bytes(), nil
	}
	return format.Source(text.Bytes())
}

// write writes the files below dir. It overwrites none.
func write(dir string, files map[string][]byte) ([]string, error) {
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o777); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if err != nil {
			return nil, err
		}
		_, err = f.Write(files[name])
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return names, nil
}
