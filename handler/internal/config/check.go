package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"example.com/durablefunctions/handler/internal/route"
)

// Problem is an error in an app's files that would fail in Azure, or a warning.
type Problem struct {
	File    string // below the app root, with slashes
	Line    int    // 0 means the whole file
	Warning bool   // the host accepts it
	Text    string // one line: what is wrong and what to do
}

func (p Problem) String() string {
	place := p.File
	if p.Line > 0 {
		place += ":" + strconv.Itoa(p.Line)
	}
	if p.Warning {
		place += ": warning"
	}
	return place + ": " + p.Text
}

// Check reads the app root as the host does and returns every problem, by file and line: what [Load] refuses, and what Load
// accepts because a running host must already have accepted it. Settings come from environ, then from local.settings.json, or
// from local.settings.example.json if the former does not exist.
func Check(root string, environ []string) []Problem {
	c := &checker{root: root}
	c.readSettings(environ)
	host := c.checkHost()
	c.checkFunctions(host)
	c.checkRuntime()
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return c.problems
}

type checker struct {
	root         string
	env          environment
	settingsFile string
	problems     []Problem
}

func (c *checker) fail(file string, line int, format string, args ...any) {
	c.problems = append(c.problems, Problem{File: filepath.ToSlash(file), Line: line, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) warn(file string, line int, format string, args ...any) {
	c.problems = append(c.problems, Problem{File: filepath.ToSlash(file), Line: line, Warning: true, Text: fmt.Sprintf(format, args...)})
}

var lineOfSyntaxError = regexp.MustCompile(`\bline (\d+)`)

// failAll reports the errors that are joined in err.
func (c *checker) failAll(name string, f file, err error) {
	for _, e := range errorList(err) {
		line := 0
		if p, ok := e.(placed); ok {
			line = f.line(p.path...)
		} else if m := lineOfSyntaxError.FindStringSubmatch(e.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
		c.fail(name, line, "%s", strings.TrimPrefix(e.Error(), filepath.FromSlash(name)+": "))
	}
}

const exampleSettingsFile = "local.settings.example.json"

// readSettings builds the environment from the settings files; environ overrides them.
func (c *checker) readSettings(environ []string) {
	c.settingsFile = localSettingsFile
	text, err := readFile(c.root, localSettingsFile)
	if err != nil {
		if example, err2 := readFile(c.root, exampleSettingsFile); err2 == nil {
			c.settingsFile, text, err = exampleSettingsFile, example, nil
		}
	}
	values := map[string]string{}
	if err == nil {
		c.failAll(c.settingsFile, openFile(text), parseLocalSettings(text, values))
	}
	c.env = environment{}
	for name, value := range values {
		c.env[strings.ToLower(name)] = value
	}
	maps.Copy(c.env, parseEnviron(environ))
}

// checkRuntime checks the setting that makes the host start a custom handler.
func (c *checker) checkRuntime() {
	const name = "FUNCTIONS_WORKER_RUNTIME"
	switch value, set := c.env[strings.ToLower(name)]; {
	case !set:
		c.fail(c.settingsFile, 0, "setting %s is missing: set it to custom, here and in the app settings (a Flex Consumption app has it as its runtime instead)", name)
	case !strings.EqualFold(value, "custom"):
		c.fail(c.settingsFile, 0, "setting %s is %q: it must be custom, for the host to speak to a custom handler", name, value)
	}
}

// checkFunctions checks all function folders, and how they fit host.json.
func (c *checker) checkFunctions(host hostFile) {
	folders, err := readFolders(c.root, c.env)
	if err != nil {
		c.fail(".", 0, "%v", err)
		return
	}
	names := map[string]bool{}
	routes := &route.Table{Prefix: host.settings.routePrefix()}
	for _, f := range folders {
		names[strings.ToLower(f.function.Name)] = true
		c.failAll(f.file, openFile(f.text), f.err)
		if f.err == nil && !f.disabled {
			c.checkFunction(f, host)
			if listed(host.Functions, f.function.Name) {
				c.failAll(f.file, openFile(f.text), addRoute(routes, f.function))
			}
		}
	}
	for i, name := range host.Functions {
		line := host.file.line("functions", strconv.Itoa(i))
		if !names[strings.ToLower(name)] {
			c.warn(hostFileName, line, "functions names %q, of which there is no folder", name)
		}
	}
	if len(host.Functions) > 0 {
		for _, f := range folders {
			if !listed(host.Functions, f.function.Name) {
				c.warn(hostFileName, host.file.line("functions"), "functions leaves out %s: the host does not load it", f.function.Name)
			}
		}
	}
	if len(folders) == 0 {
		c.fail(".", 0, "there is no function: a function is a folder with a function.json")
	}
}

func (c *checker) checkFunction(f folder, host hostFile) {
	lines := openFile(f.text)
	for i, b := range f.function.Bindings {
		line := func(property string) int { return lines.line("bindings", strconv.Itoa(i), property) }
		if strings.EqualFold(b.Property("cardinality"), "many") {
			c.fail(f.file, line("cardinality"), "%s has cardinality many: a custom handler gets one message at a time, delete it", b.Name)
		}
		c.checkBindingSettings(f.file, b, line)
	}
	// A missing setting is reported by checkBindingSettings.
	if _, err := f.function.schedule(c.env); !errors.Is(err, errNotSet) {
		c.failAll(f.file, lines, err)
	}
	if host.forwards && f.function.Trigger().Is("httpTrigger") && !f.function.onlyHTTP() {
		c.warn(f.file, lines.line("bindings"), "customHandler.enableForwardingHttpRequest does not forward to this function, which has more than an httpTrigger and an http output: the host sends it an invocation")
	}
}

// onlyHTTP says whether the host forwards the function's requests, if host.json turns forwarding on.
func (f Function) onlyHTTP() bool {
	for _, b := range f.Bindings {
		if !b.Is("httpTrigger") && !(b.Is("http") && b.Direction == "out") {
			return false
		}
	}
	return true
}
