package cli

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/alecthomas/kong"

	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/internal/scaffold"
)

//go:embed completion
var completionFiles embed.FS

var completionScripts = template.Must(template.ParseFS(completionFiles, "completion/*.tmpl"))

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"${enum}."`
}

// Run prints what the shell is to run. Its functions ask the command complete of whatever binary stands on the command line.
func (c *completionCommand) Run(e *Environment, k *kong.Kong) error {
	return completionScripts.ExecuteTemplate(e.Stdout, c.Shell+".tmpl", k.Model.Name)
}

// completeCommand is what the shells ask.
type completeCommand struct {
	Lines bool     `hidden:"" help:"The words come as one, one a line."`
	Words []string `arg:"" optional:"" help:"The words of the command line up to the cursor, without the binary."`
}

// Run prints the words that may stand at the cursor, one a line, some with a tab and what they are for; for files one line, :files or
// :directories. What it cannot find out is no error: there is nobody to read that.
func (c *completeCommand) Run(e *Environment, k *kong.Kong) error {
	words := c.Words
	if c.Lines {
		words = strings.Split(strings.Join(words, "\n"), "\n")
	}
	if len(words) == 0 {
		words = []string{""}
	}
	completion{root: k.Model.Node, e: e, w: e.Stdout}.print(words)
	return nil
}

// completion is one question of a shell.
type completion struct {
	root *kong.Node
	e    *Environment
	w    io.Writer
}

// print follows the words through the commands, as far as they are complete, and prints what may come at the last one.
func (c completion) print(words []string) {
	last := words[len(words)-1]
	node, arguments := c.root, 0
	var open *kong.Flag // it waits for its value
	values := map[string]string{}
	for n, word := range words[:len(words)-1] {
		name, value, hasValue := strings.Cut(word, "=")
		switch flag := findFlag(node, name); {
		case word == "--":
			return // what follows is another program's
		case open != nil && word == "=": // bash makes it a word of its own
		case open != nil:
			values[open.Name] = word
			open = nil
		case flag != nil && hasValue:
			values[flag.Name] = value
		case flag != nil && (!flag.IsBool() || words[n+1] == "="):
			open = flag
		case flag != nil:
		default:
			child := findCommand(node, word)
			switch {
			case child != nil:
				node, arguments = child, 0
			case len(node.Children) > 0:
				return // there is no such command
			default:
				arguments++
			}
		}
	}
	name, _, hasValue := strings.Cut(last, "=")
	switch flag := findFlag(node, name); {
	case open != nil:
		c.values(open.Value, "", values)
	case flag != nil && hasValue:
		c.values(flag.Value, name+"=", values)
	case strings.HasPrefix(last, "-"):
		c.flags(node)
	case len(node.Children) > 0:
		c.commands(node)
	case len(node.Positional) > 0:
		value := node.Positional[min(arguments, len(node.Positional)-1)]
		if arguments < len(node.Positional) || value.IsCumulative() {
			c.values(value, "", values)
		}
	}
}

func findCommand(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

func findFlag(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			if name == "--"+flag.Name || flag.Short != 0 && name == "-"+string(flag.Short) {
				return flag
			}
		}
	}
	return nil
}

// word prints a candidate and what it is for, unless a shell would act on it.
func (c completion) word(word, help string) {
	if word == "" || word != OneLine(word) || strings.ContainsAny(word, " '\"\\$`;&|<>(){}*?!#~") {
		return
	}
	if first, _, _ := strings.Cut(help, ". "); first != "" {
		word += "\t" + OneLine(strings.TrimSuffix(first, "."))
	}
	fmt.Fprintln(c.w, word)
}

func (c completion) commands(node *kong.Node) {
	for _, child := range node.Children {
		if !child.Hidden {
			c.word(child.Name, child.Help)
		}
	}
}

func (c completion) flags(node *kong.Node) {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			c.word("--"+flag.Name, flag.Help)
		}
	}
}

// values prints what a flag or an argument may be: the tag complete says of which kind it is. given are the flags that stand on
// the command line.
func (c completion) values(v *kong.Value, prefix string, given map[string]string) {
	list, kind := v.EnumSlice(), v.Tag.Get("complete")
	switch kind {
	case "file":
		fmt.Fprintln(c.w, ":files")
		return
	case "directory":
		fmt.Fprintln(c.w, ":directories")
		return
	case "function", "orchestrator":
		list = c.functions(kind == "orchestrator")
	case "instance":
		list = c.instances(given)
	case "trigger":
		list = scaffold.Triggers()
	case "with":
		list = scaffold.Optional
	case "":
	default:
		list = strings.Split(kind, ",")
	}
	for _, value := range list {
		c.word(prefix+value, "")
	}
}

// functions are the names of those that a message can be delivered to, or of the orchestrators.
func (c completion) functions(orchestrators bool) (names []string) {
	app, err := config.Load(".", os.Environ())
	if err != nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(app.Functions)) {
		trigger := app.Functions[name].Trigger()
		isDurable := trigger.Is(config.OrchestrationTrigger) || trigger.Is(config.ActivityTrigger) || trigger.Is(config.EntityTrigger)
		if orchestrators && trigger.Is(config.OrchestrationTrigger) || !orchestrators && !isDurable {
			names = append(names, name)
		}
	}
	return names
}

// The most that is asked of an app while somebody waits with the finger on the key.
const (
	completionTime      = time.Second
	completionInstances = 200
)

// instances are the ids of the youngest instances of the app that the flags choose.
func (c completion) instances(given map[string]string) (ids []string) {
	if given["app"] != "" {
		return nil // asking az takes seconds
	}
	data := given["data"]
	if data == "" {
		data, _ = handler.DataDir(".", os.Getenv) // [DataDir] would move things
	}
	r := Remote{DataFlag: DataFlag{Data: data}, URL: cmp.Or(given["url"], os.Getenv("DURABLE_URL")), Code: cmp.Or(given["code"], os.Getenv("DURABLE_CODE"))}
	client, err := r.client(c.e)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.e.Context, completionTime)
	defer cancel()
	list, _, err := listAll(ctx, client, httpapi.Filter{}, "", completionInstances)
	if err != nil {
		return nil
	}
	slices.SortStableFunc(list, func(a, b httpapi.Instance) int { return b.Created.Compare(a.Created) })
	for _, i := range list {
		if !strings.Contains(i.ID, ":") { // a child's; bash would take it for two words
			ids = append(ids, i.ID)
		}
	}
	return ids
}
