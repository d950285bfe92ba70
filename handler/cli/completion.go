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

// Run prints the script for the shell. Its functions call the command complete of the binary on the command line.
func (c *completionCommand) Run(e *Environment, k *kong.Kong) error {
	return completionScripts.ExecuteTemplate(e.Stdout, c.Shell+".tmpl", k.Model.Name)
}

// completeCommand is the hidden command that the shells call.
type completeCommand struct {
	Lines bool     `hidden:"" help:"The words come as one, one a line."`
	Words []string `arg:"" optional:"" help:"The words of the command line up to the cursor, without the binary."`
}

// Run prints the words that may stand at the cursor, one per line, some with a tab and a description. For files it prints one
// line, :files or :directories. It reports no errors, because nobody would read them.
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
	var open *kong.Flag // the flag that waits for its value
	values := map[string]string{}
	for n, word := range words[:len(words)-1] {
		name, value, hasValue := strings.Cut(word, "=")
		switch flag := findFlag(node, name); {
		case word == "--":
			return // the rest of the line belongs to another program
		case open != nil && word == "=": // bash makes "=" a separate word
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
				return // the command does not exist
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

// word prints a candidate with its description, unless a shell would interpret a character in it.
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

// values prints the possible values of a flag or an argument; the tag complete says of which kind they are. given are the
// flags on the command line.
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

// functions returns the names of the orchestrators, or of the functions that take messages.
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

// Limits on what is asked of an app while the user waits for the completion.
const (
	completionTime      = time.Second
	completionInstances = 200
)

// instances returns the ids of the newest instances of the app that the flags choose.
func (c completion) instances(given map[string]string) (ids []string) {
	if given["app"] != "" {
		return nil // asking az takes seconds
	}
	data := given["data"]
	if data == "" {
		data, _ = handler.DataDir(".", os.Getenv) // [DataDir] would move files
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
		if !strings.Contains(i.ID, ":") { // the id of a child has a colon, and bash would take it for two words
			ids = append(ids, i.ID)
		}
	}
	return ids
}
