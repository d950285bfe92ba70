package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Function is one function folder.
type Function struct {
	Name     string // the folder's name
	Bindings []Binding
	Retry    *Retry    // its own policy, otherwise that of host.json; nil: none
	Schedule *Schedule // of a timerTrigger

	ScriptFile string // a custom handler does not need it, but the host drops the function if the file does not exist
}

// Binding is one entry of a function.json's "bindings".
type Binding struct {
	Name, Type string
	Direction  string         // "in", "out" or "inout"
	Properties map[string]any // everything in the entry, in the file's spelling; see Property
}

// Binding types that the durable task extension brings.
const (
	OrchestrationTrigger = "orchestrationTrigger"
	ActivityTrigger      = "activityTrigger"
	EntityTrigger        = "entityTrigger"
	DurableClient        = "durableClient"
)

// Property returns a property's text (queueName, connection, apiKey, …), "" when it is absent or not a scalar.
func (b Binding) Property(name string) string {
	text, _ := scalar(lookup(b.Properties, name))
	return text
}

// DataType returns the form in which the value comes: "binary", "string" or "stream", or "" when the entry does not say.
func (b Binding) DataType() string { return strings.ToLower(b.Property("dataType")) }

// Is says whether the binding has this type. The host ignores case, and accepts orchestrationClient, the old name of
// durableClient.
func (b Binding) Is(bindingType string) bool {
	return strings.EqualFold(b.Type, bindingType) ||
		bindingType == DurableClient && strings.EqualFold(b.Type, "orchestrationClient")
}

func (b Binding) isTrigger() bool {
	return strings.HasSuffix(strings.ToLower(b.Type), "trigger")
}

// Trigger returns the function's trigger binding; Load made sure that there is exactly one.
func (f Function) Trigger() Binding {
	for _, b := range f.Bindings {
		if b.isTrigger() {
			return b
		}
	}
	return Binding{}
}

// atTrigger puts an error at a property of the trigger's binding.
func (f Function) atTrigger(err error, property string) error {
	i := slices.IndexFunc(f.Bindings, Binding.isTrigger)
	return at(err, "bindings", strconv.Itoa(i), property)
}

// Outputs returns the names of the output bindings, including those of direction "inout".
func (f Function) Outputs() []string {
	var names []string
	for _, b := range f.Bindings {
		if b.Direction != "in" {
			names = append(names, b.Name)
		}
	}
	return names
}

// The length is checked separately: compiling a repetition of 126 would take a millisecond of the start.
var (
	validFunctionName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	validBindingName  = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9]*|\$return)$`)
)

const maxName = 128

// ValidFunctionName says whether the host accepts the name of a function's folder.
func ValidFunctionName(name string) bool {
	return validFunctionName.MatchString(name) && len(name) <= maxName && !strings.EqualFold(name, "host")
}

// parseFunction reads a function.json. The error joins all problems.
func parseFunction(name string, text []byte, env environment) (f Function, disabled bool, err error) {
	object, err := parseObject(text)
	if err != nil {
		return Function{}, false, err
	}
	if !ValidFunctionName(name) {
		return Function{}, false, fmt.Errorf("%q is not a function's name: rename the folder to a letter, then letters, digits, _ and -, 128 in all, and not host", name)
	}
	if isDisabled(name, lookup(object, "disabled"), env) {
		return Function{Name: name}, true, nil
	}
	f = Function{Name: name}
	f.ScriptFile, _ = object["scriptFile"].(string) // the host knows only this spelling
	var errs [3]error
	f.Bindings, errs[0] = parseBindings(object)
	f.Retry, errs[1] = functionRetry(object)
	errs[1] = at(errs[1], "retry")
	if errs[0] == nil {
		errs[2] = at(f.check(), "bindings")
	}
	return f, false, errors.Join(errs[:]...)
}

// isDisabled says whether "disabled" is true, or names an app setting that is true.
func isDisabled(name string, disabled any, env environment) bool {
	if setting, ok := disabled.(string); ok && isTrue(env.get(strings.Trim(setting, "%"))) {
		return true
	}
	return isTrue(disabled) || env.disabled(name)
}

func parseBindings(object map[string]any) ([]Binding, error) {
	value, ok := object["bindings"]
	if !ok && lookup(object, "bindings") != nil {
		return nil, at(errors.New(`the host finds "bindings" in small letters only: write it so`), "bindings")
	}
	entries, ok := value.([]any)
	if !ok || len(entries) == 0 {
		return nil, at(errors.New(`no bindings: add "bindings" with a trigger`), "bindings")
	}
	bindings := make([]Binding, 0, len(entries))
	names := map[string]bool{}
	var errs []error
	for i, entry := range entries {
		b, err := parseBinding(entry)
		if err == nil && names[strings.ToLower(b.Name)] {
			err = fmt.Errorf("the name %q is used twice: rename one binding", b.Name)
		}
		if err != nil {
			errs = append(errs, at(fmt.Errorf("bindings[%d]: %w", i, err), "bindings", strconv.Itoa(i)))
			continue
		}
		names[strings.ToLower(b.Name)] = true
		bindings = append(bindings, b)
	}
	return bindings, errors.Join(errs...)
}

func parseBinding(entry any) (Binding, error) {
	object, ok := entry.(map[string]any)
	if !ok {
		return Binding{}, errors.New("must be an object with type, direction and name")
	}
	b := Binding{Properties: object}
	b.Name, b.Type, b.Direction = b.Property("name"), b.Property("type"), cmp.Or(strings.ToLower(b.Property("direction")), "in")
	switch {
	case b.Type == "":
		return Binding{}, errors.New(`"type" is missing: say for example "activityTrigger"`)
	case b.Name == "":
		return Binding{}, fmt.Errorf(`the %s binding's "name" is missing: give it one`, b.Type)
	case !validBindingName.MatchString(b.Name) || len(b.Name) > maxName:
		return Binding{}, fmt.Errorf("%q is not a binding's name: the host takes a letter, then letters and digits, 128 in all", b.Name)
	case b.Direction != "in" && b.Direction != "out" && b.Direction != "inout":
		return Binding{}, fmt.Errorf(`the direction of %q is %q: it must be "in", "out" or "inout"`, b.Name, b.Direction)
	case b.Name == "$return" && b.Direction != "out":
		return Binding{}, fmt.Errorf(`the direction of $return is %q: it must be "out"`, b.Direction)
	case !slices.Contains([]string{"", "one", "many"}, strings.ToLower(b.Property("cardinality"))):
		return Binding{}, fmt.Errorf(`the cardinality of %q is %q: it must be "one"`, b.Name, b.Property("cardinality"))
	case b.isTrigger() && b.Direction != "in":
		return Binding{}, fmt.Errorf(`the direction of the trigger %q is %q: it must be "in"`, b.Name, b.Direction)
	case !slices.Contains([]string{"", "undefined", "string", "binary", "stream"}, b.DataType()):
		return Binding{}, fmt.Errorf(`the dataType of %q is %q: it must be "string", "binary" or "stream"`, b.Name, b.Property("dataType"))
	}
	return b, nil
}

func (f Function) check() error {
	triggers := 0
	for _, b := range f.Bindings {
		if b.isTrigger() {
			triggers++
		}
	}
	if triggers != 1 {
		return fmt.Errorf("%d triggers: a function has exactly one binding whose type ends in Trigger", triggers)
	}
	for _, b := range f.Bindings {
		// The answer to a turn is a base64 string in ReturnValue, and the host decodes it for such a binding.
		if b.Name == "$return" && f.Trigger().Is(OrchestrationTrigger) {
			return errors.New("an orchestrator cannot have a $return binding, the host would take the turn's answer for it: give the output a name of its own")
		}
	}
	return nil
}
