package funchost

import (
	"testing"

	"example.com/durablefunctions/handler/internal/config"
)

// TestNamedResults: a result's property with an output's name takes the output's place.
func TestNamedResults(t *testing.T) {
	t.Parallel()
	f := config.Function{Name: "F", Bindings: []config.Binding{
		{Type: config.ActivityTrigger, Direction: "in", Name: "input"},
		{Type: "sendGrid", Direction: "out", Name: "mail"},
		{Type: "queue", Direction: "out", Name: "other"},
	}}
	a, err := ReadAnswer(f, &Reply{Status: 200, ContentType: "application/json", Body: []byte(`{"outputs":{"mail":1},"ReturnValue":{"mail":2,"Other":3}}`)})
	if err != nil || string(a.Outputs["mail"]) != "2" || a.Outputs["other"] != nil {
		t.Errorf("outputs %s, %v", a.Outputs, err)
	}
}
