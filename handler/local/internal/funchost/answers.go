package funchost

import (
	"bytes"
	"encoding/json"
	"fmt"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/newtonsoft"
)

// Answer is the body of a good answer. The host matches the keys in any case, as encoding/json does.
type Answer struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

// ReadAnswer judges an answer as the host does. The error is an [*Exception]. If the outputs are refused, the answer is returned
// together with the error, because its Logs count.
func ReadAnswer(f config.Function, r *Reply) (*Answer, error) {
	if r.Status < 200 || r.Status > 299 {
		return nil, Failed(f.Name, &Exception{Type: httpRequestException, Message: statusMessage(r), Status: r.Status})
	}
	if r.IsEmpty() {
		return nil, Failed(f.Name, notUnderstood(r, "the answer is empty or null"))
	}
	if !r.isJSON() {
		return nil, Failed(f.Name, notUnderstood(r, fmt.Sprintf("its Content-Type is %q, not application/json", r.ContentType)))
	}
	a := &Answer{}
	if err := json.Unmarshal(r.Body, a); err != nil {
		return nil, Failed(f.Name, notUnderstood(r, err.Error()))
	}
	a.takeNamedResults(f)
	for name, value := range a.Outputs {
		altered, err := newtonsoft.Result(value)
		if err != nil {
			return a, Failed(f.Name, refusedValue(err))
		}
		a.Outputs[name] = altered
	}
	return a, nil
}

// IsEmpty says whether the answer is empty or null. The real host never ends such an invocation; this one fails it.
func (r *Reply) IsEmpty() bool {
	text := bytes.TrimSpace(r.Body)
	return r.Status >= 200 && r.Status <= 299 && (len(text) == 0 || string(text) == "null")
}

func statusMessage(r *Reply) string {
	message := fmt.Sprintf("Response status code does not indicate success: %d", r.Status)
	if r.Reason != "" {
		message += " (" + r.Reason + ")"
	}
	return message + "."
}

// takeNamedResults takes outputs from the result. With a $return binding, the result is the output $return. Without one, a
// property of the result with exactly the name of an output replaces that output in Outputs.
func (a *Answer) takeNamedResults(f config.Function) {
	outputs := f.Outputs()
	for _, name := range outputs {
		if name == "$return" {
			a.setOutput(name, a.ReturnValue)
			return
		}
	}
	var result map[string]json.RawMessage
	if len(outputs) == 0 || json.Unmarshal(a.ReturnValue, &result) != nil {
		return
	}
	for _, name := range outputs {
		if value, ok := result[name]; ok {
			a.setOutput(name, value)
		}
	}
}

func (a *Answer) setOutput(name string, value json.RawMessage) {
	if a.Outputs == nil {
		a.Outputs = map[string]json.RawMessage{}
	}
	a.Outputs[name] = value
}

// Result returns the result as an orchestrator gets it, as Newtonsoft.Json has altered it; nil if there is no result. The error is
// an [*Exception].
func (a *Answer) Result(f config.Function) ([]byte, error) {
	if len(a.ReturnValue) == 0 || string(a.ReturnValue) == "null" {
		return nil, nil
	}
	result, err := newtonsoft.Result(a.ReturnValue)
	if err != nil {
		return nil, Failed(f.Name, refusedValue(err))
	}
	if string(result) == "null" {
		return nil, nil
	}
	return result, nil
}
