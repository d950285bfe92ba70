// Package config reads an app root as the Functions host reads it: host.json, the function.json of every function
// folder, and local.settings.json.
//
//	app, err := config.Load(".", os.Environ())
//	if err != nil {
//		return err // one line: which file, what is wrong, what to do
//	}
//	for name, f := range app.Functions {
//		fmt.Println(name, f.Trigger().Type)
//	}
//
// Files may hold comments and trailing commas, may be UTF-16 with a byte order mark, and property names are matched without regard
// to case, as in the host. Every setting of host.json can be overridden by an environment variable:
// AzureFunctionsJobHost__extensions__durableTask__hubName=OtherHub (or with ":" in place of "__").
package config

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/tailscale/hujson"

	"example.com/durablefunctions/handler/internal/route"
)

// App is what the files under an app root declare.
type App struct {
	Root      string
	Host      Host
	Functions map[string]Function // by folder name, in the folder's spelling; without the disabled ones
	Disabled  []string            // names of the functions that are switched off, or not in "functions" of host.json, sorted
	Routes    *route.Table        // of the functions with an httpTrigger
}

// Function finds a function by its name, in any case.
func (a *App) Function(name string) (Function, bool) {
	if f, ok := a.Functions[name]; ok {
		return f, true
	}
	for _, f := range a.Functions {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return Function{}, false
}

// maxFileSize bounds each file that is read; a real one has a few hundred bytes.
const maxFileSize = 1 << 20

// Load reads host.json and the functions under root. Environ has the form of os.Environ; its AzureFunctionsJobHost__…
// variables override host.json and its AzureWebJobs.<name>.Disabled variables switch functions off.
// Every error is one line that names the file and says what to do.
func Load(root string, environ []string) (*App, error) {
	env := parseEnviron(environ)
	host, err := loadHost(root, env)
	if err != nil {
		return nil, err
	}
	app := &App{Root: root, Host: host, Functions: map[string]Function{}, Routes: newRoutes(host)}
	if err := app.loadFunctions(env); err != nil {
		return nil, err
	}
	return app, nil
}

func (a *App) loadFunctions(env environment) error {
	folders, err := readFolders(a.Root, env)
	if err != nil {
		return err
	}
	for _, f := range folders {
		if f.err != nil {
			return fmt.Errorf("%s: %w", f.file, first(f.err))
		}
		function := f.function
		if function.Retry == nil {
			function.Retry = a.Host.Retry
		}
		a.Host.sendGridDefaults(function)
		if f.disabled || !listed(a.Host.Functions, function.Name) {
			a.Disabled = append(a.Disabled, function.Name)
			continue
		}
		if function.Schedule, err = function.schedule(env); err == nil {
			err = addRoute(a.Routes, function)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.file, err)
		}
		a.Functions[function.Name] = function
	}
	return nil
}

// listed says whether "functions" of host.json, which lists the only functions to load, contains this one. Without a list all
// are loaded.
func listed(functions []string, name string) bool {
	return len(functions) == 0 || slices.ContainsFunc(functions, func(f string) bool { return strings.EqualFold(f, name) })
}

// folder is a function folder after reading.
type folder struct {
	file     string // its function.json, below the root
	text     []byte
	function Function // always has at least the name
	disabled bool
	err      error // all errors, joined
}

func readFolders(root string, env environment) ([]folder, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("app root %s: %w", root, err)
	}
	var folders []folder
	spelling := map[string]string{}
	for _, entry := range entries {
		name := entry.Name()
		f := folder{file: filepath.Join(name, "function.json"), function: Function{Name: name}}
		f.text, err = readFile(root, f.file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
			continue
		} else if err != nil {
			return nil, err
		}
		if other, ok := spelling[strings.ToLower(name)]; ok {
			f.err = fmt.Errorf("the folders %s and %s differ only in case, which names one function: rename one", other, name)
		} else {
			spelling[strings.ToLower(name)] = name
			f.read(root, env)
		}
		folders = append(folders, f)
	}
	return folders, nil
}

func (f *folder) read(root string, env environment) {
	function, disabled, err := parseFunction(f.function.Name, f.text, env)
	if script := function.ScriptFile; script != "" && err == nil {
		if _, missing := os.Stat(filepath.Join(root, f.function.Name, script)); missing != nil {
			err = at(fmt.Errorf("scriptFile %q does not exist, upon which the host drops the function: delete the property, a custom handler needs none", script), "scriptFile")
		}
	}
	function.Name = f.function.Name
	f.function, f.disabled, f.err = function, disabled, err
}

const localSettingsFile = "local.settings.json"

// LocalSettings returns the "Values" of root's local.settings.json, which func start turns into environment variables
// (variables that are already set win). It returns none if the file does not exist. An encrypted file is an error.
func LocalSettings(root string) (map[string]string, error) {
	values := map[string]string{}
	err := readLocalSettings(root, func(text []byte) error { return parseLocalSettings(text, values) })
	if err != nil {
		return nil, err
	}
	return values, nil
}

// LocalHTTPPort returns Host.LocalHttpPort of root's local.settings.json, 0 if there is none.
func LocalHTTPPort(root string) (port uint16, err error) {
	err = readLocalSettings(root, func(text []byte) (err error) {
		port, err = parseLocalHTTPPort(text)
		return err
	})
	return port, err
}

// readLocalSettings parses the file, if there is one. The error names it.
func readLocalSettings(root string, parse func(text []byte) error) error {
	text, err := readFile(root, localSettingsFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := parse(text); err != nil {
		return fmt.Errorf("%s: %w", localSettingsFile, err)
	}
	return nil
}

func parseLocalHTTPPort(text []byte) (uint16, error) {
	settings, err := parseObject(text)
	if err != nil {
		return 0, err
	}
	host, _ := lookup(settings, "Host").(map[string]any)
	value := lookup(host, "LocalHttpPort")
	if value == nil {
		return 0, nil
	}
	number, _ := scalar(value)
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("\"Host.LocalHttpPort\" is %q: it must be a port, such as 7071", number)
	}
	return uint16(port), nil
}

func parseLocalSettings(text []byte, values map[string]string) error {
	settings, err := parseObject(text)
	if err != nil {
		return err
	}
	if isTrue(lookup(settings, "IsEncrypted")) {
		return errors.New(`its values are encrypted, which is not supported: run "func settings decrypt" first`)
	}
	raw := lookup(settings, "Values")
	if raw == nil {
		return nil
	}
	object, ok := raw.(map[string]any)
	if !ok {
		return errors.New(`"Values" must be an object of strings`)
	}
	for name, value := range object {
		if value == nil {
			continue // as if it did not exist
		}
		text, ok := scalar(value)
		if !ok {
			return fmt.Errorf("the value of %q must be a string", name)
		}
		values[name] = text
	}
	return nil
}

var errNotDir = errors.New("not a directory")

// readFile reads a file under root. Its errors name the file and not the whole path.
func readFile(root, file string) ([]byte, error) {
	path := filepath.Join(root, file)
	if parent, err := os.Stat(filepath.Dir(path)); err == nil && !parent.IsDir() {
		return nil, fmt.Errorf("%s: %w", filepath.Dir(file), errNotDir)
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, not a file: remove it", file)
	}
	if err == nil && info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d that are read: make it smaller", file, info.Size(), maxFileSize)
	}
	text, err := os.ReadFile(path)
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return nil, fmt.Errorf("%s cannot be read: %w", file, pathErr.Err)
	}
	return text, err
}

// parseJSON parses JSON with comments and trailing commas, which must be an object.
func parseJSON(text []byte) (hujson.Value, error) {
	value, err := hujson.Parse(decodeText(text))
	if err != nil {
		where, _, _ := strings.Cut(err.Error(), " literal: ") // the literal must not be shown: in local.settings.json it may be a secret
		return value, fmt.Errorf("not valid JSON: %s", strings.TrimPrefix(where, "hujson: "))
	}
	if _, ok := value.Value.(*hujson.Object); !ok {
		return value, errors.New("must hold a JSON object")
	}
	return value, nil
}

// parseObject decodes JSON with comments and trailing commas into an object.
func parseObject(text []byte) (map[string]any, error) {
	value, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	value.Standardize()
	decoder := json.NewDecoder(bytes.NewReader(value.Pack()))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	return object, nil
}

// decodeText returns a copy of the text in UTF-8 without a byte order mark. Like .NET, it reads UTF-16 if the mark says so:
// Windows PowerShell writes such files.
func decodeText(text []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return bytes.Clone(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")))
	}
	units := make([]uint16, len(text)/2-1)
	for i := range units {
		units[i] = order.Uint16(text[2*i+2:])
	}
	return []byte(string(utf16.Decode(units)))
}

// lookup returns the property of that name: the exact one, else one that differs in case.
func lookup(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	for key, value := range object {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return nil
}

// scalar returns a string, number or bool as text.
func scalar(value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

func isTrue(value any) bool {
	text, ok := scalar(value)
	return ok && (strings.EqualFold(text, "true") || text == "1")
}
