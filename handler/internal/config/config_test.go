package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minimalHost = `{"version":"2.0"}`

// writeApp writes files (path: text) under a new app root.
func writeApp(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLoad(t *testing.T) {
	t.Parallel()
	root := writeApp(t, map[string]string{
		"host.json": "\ufeff" + `{
			// comments and trailing commas are fine
			"version": "2.0",
			"FunctionTimeout": "00:05:00",
			"extensions": {
				"durableTask": {"hubName": "MyHub", "maxConcurrentActivityFunctions": 7, "MaxConcurrentOrchestratorFunctions": 3,},
				"serviceBus": {"maxConcurrentCalls": 4},
			},
			"customHandler": {"description": {"defaultExecutablePath": "app"}},
		}`,
		"Start/function.json": `{"bindings":[
			{"type":"serviceBusTrigger","direction":"in","name":"item","queueName":"q","connection":"C"},
			{"Type":"durableClient","Direction":"IN","Name":"starter"}]}`,
		"Orch/function.json": `{"bindings":[
			{"type":"orchestrationTrigger","direction":"in","name":"context"},
			{"type":"sendGrid","direction":"out","name":"mail","ApiKey":"SendGridKey"}]}`,
		"Off/function.json":       `{"disabled":true,"bindings":[]}`,
		"OffByName/function.json": `{"disabled":"IS_OFF","bindings":[]}`,
		"OffByEnv/function.json":  `{"bindings":[]}`,
		"notes/readme.txt":        "no function",
	})
	app, err := Load(root, []string{"is_off=1", "AzureWebJobs.OffByEnv.Disabled=true"})
	if err != nil {
		t.Fatal(err)
	}
	want := Host{
		FunctionTimeout: 5 * time.Minute, TimeoutSet: true, HubName: "MyHub", MaxConcurrentActivities: 7,
		MaxConcurrentOrchestrators: 3, MaxConcurrentEntities: 10 * runtime.NumCPU(), MaxEntityBatch: 50, Executable: "app", MaxConcurrentCalls: 4, RoutePrefix: "api",
	}
	if diff := cmp.Diff(want, app.Host); diff != "" {
		t.Error(diff)
	}
	if names := slices.Sorted(maps.Keys(app.Functions)); !slices.Equal(names, []string{"Orch", "Start"}) {
		t.Errorf("functions %v", names)
	}
	if !slices.Equal(app.Disabled, []string{"Off", "OffByEnv", "OffByName"}) {
		t.Errorf("disabled %v", app.Disabled)
	}
	start, orch := app.Functions["Start"], app.Functions["Orch"]
	if trigger := start.Trigger(); !trigger.Is("servicebustrigger") || trigger.Name != "item" || trigger.Property("queuename") != "q" {
		t.Errorf("trigger %+v", trigger)
	}
	if !start.Bindings[1].Is(DurableClient) || start.Bindings[1].Direction != "in" {
		t.Errorf("client binding %+v", start.Bindings[1])
	}
	if !slices.Equal(orch.Outputs(), []string{"mail"}) || orch.Bindings[1].Property("apiKey") != "SendGridKey" {
		t.Errorf("outputs %v of %+v", orch.Outputs(), orch.Bindings)
	}
}

func TestHostDefaultsAndOverrides(t *testing.T) {
	t.Parallel()
	cores := runtime.NumCPU()
	defaults := Host{HubName: "TestHubName", MaxConcurrentActivities: 10 * cores, MaxConcurrentOrchestrators: 10 * cores, MaxConcurrentEntities: 10 * cores, MaxEntityBatch: 50, MaxConcurrentCalls: 16, RoutePrefix: "api"}
	with := func(change func(*Host)) Host {
		h := defaults
		change(&h)
		return h
	}
	for name, c := range map[string]struct {
		file    string
		environ []string
		want    Host
	}{
		"defaults": {minimalHost, nil, defaults},
		"override": {
			`{"version":"2.0","functionTimeout":"00:10:00"}`,
			[]string{"AzureFunctionsJobHost__FunctionTimeout=00:00:05", "azurefunctionsjobhost:extensions:durableTask:hubName=Other", "OTHER=x"},
			with(func(h *Host) { h.FunctionTimeout, h.TimeoutSet, h.HubName = 5*time.Second, true, "Other" }),
		},
		"no limit": {`{"version":"2.0","functionTimeout":-1}`, nil, with(func(h *Host) { h.TimeoutSet = true })},
		"days": {`{"version":"2.0","functionTimeout":"1.02:03:04.5"}`, nil, with(func(h *Host) {
			h.TimeoutSet, h.FunctionTimeout = true, 26*time.Hour+3*time.Minute+4500*time.Millisecond
		})},
		"hub from setting": {`{"version":"2.0","extensions":{"durableTask":{"hubName":"%Hub_Name%"}}}`, []string{"HUB_NAME=Mine"}, with(func(h *Host) { h.HubName = "Mine" })},
		"entities": {`{"version":"2.0","extensions":{"durableTask":{"maxConcurrentEntityFunctions":3,"maxEntityOperationBatchSize":"1"}}}`, nil,
			with(func(h *Host) { h.MaxConcurrentEntities, h.MaxEntityBatch = 3, 1 })},
		"null timeout": {`{"version":"2.0","functionTimeout":null}`, nil, defaults},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, err := Load(writeApp(t, map[string]string{"host.json": c.file}), c.environ)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, app.Host); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	function := func(text string) map[string]string {
		return map[string]string{"host.json": minimalHost, "F/function.json": text}
	}
	host := func(text string) map[string]string { return map[string]string{"host.json": text} }
	for name, c := range map[string]struct {
		files map[string]string
		want  string // in the error
	}{
		"no host.json":        {nil, "host.json not found"},
		"truncated host.json": {host(`{"version":`), "host.json: not valid JSON"},
		"host.json no object": {host(`[]`), "host.json: must hold a JSON object"},
		"no version":          {host(`{}`), `"version" is ""`},
		"bad timeout":         {host(`{"version":"2.0","functionTimeout":"5 min"}`), `"5 min" is not a time span`},
		"25 days, 60 hours":   {host(`{"version":"2.0","functionTimeout":"25:60:00"}`), "not a time span"},
		"zero timeout":        {host(`{"version":"2.0","functionTimeout":"00:00:00"}`), "too short"},
		"short hub":           {host(`{"version":"2.0","extensions":{"durableTask":{"hubName":"ab"}}}`), "hubName"},
		"hub with dash":       {host(`{"version":"2.0","extensions":{"durableTask":{"hubName":"my-hub"}}}`), "hubName"},
		"zero activities":     {host(`{"version":"2.0","extensions":{"durableTask":{"maxConcurrentActivityFunctions":0}}}`), "maxConcurrentActivityFunctions"},
		"extended sessions":   {host(`{"version":"2.0","extensions":{"durableTask":{"extendedSessionsEnabled":true}}}`), "refuses to start"},
		"truncated function":  {function(`{"bindings":[`), "function.json: not valid JSON"},
		"no bindings":         {function(`{}`), "no bindings"},
		"no trigger":          {function(`{"bindings":[{"type":"durableClient","direction":"in","name":"c"}]}`), "0 triggers"},
		"two triggers":        {function(`{"bindings":[{"type":"queueTrigger","direction":"in","name":"a"},{"type":"activityTrigger","direction":"in","name":"b"}]}`), "2 triggers"},
		"same name":           {function(`{"bindings":[{"type":"activityTrigger","direction":"in","name":"a"},{"type":"blob","direction":"in","name":"A"}]}`), `bindings[1]: the name "A" is used twice`},
		"no type":             {function(`{"bindings":[{"direction":"in","name":"a"}]}`), `"type" is missing`},
		"no name":             {function(`{"bindings":[{"type":"activityTrigger","direction":"in"}]}`), `"name" is missing`},
		"direction":           {function(`{"bindings":[{"type":"activityTrigger","name":"a","direction":"both"}]}`), `direction of "a"`},
		"trigger out":         {function(`{"bindings":[{"type":"activityTrigger","name":"a","direction":"out"}]}`), `must be "in"`},
		"binding no object":   {function(`{"bindings":[1]}`), "bindings[0]: must be an object"},
		"orchestrator $return": {
			function(`{"bindings":[{"type":"orchestrationTrigger","name":"c","direction":"in"},{"type":"queue","name":"$return","direction":"out"}]}`),
			"cannot have a $return binding",
		},
		"folder name": {map[string]string{"host.json": minimalHost, "1st/function.json": `{}`}, "not a function's name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(writeApp(t, c.files), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
		})
	}
}

func TestLongNames(t *testing.T) {
	t.Parallel()
	for n, valid := range map[int]bool{128: true, 129: false} {
		long := strings.Repeat("n", n)
		for _, names := range [][2]string{{long, "b"}, {"F", long}} {
			_, err := Load(writeApp(t, map[string]string{
				"host.json":                 minimalHost,
				names[0] + "/function.json": fmt.Sprintf(`{"bindings":[{"type":"activityTrigger","name":%q,"direction":"in"}]}`, names[1]),
			}), nil)
			if (err == nil) != valid {
				t.Errorf("a name of %d characters: error %v", n, err)
			}
		}
	}
}

func TestActivityMayReturn(t *testing.T) {
	t.Parallel()
	root := writeApp(t, map[string]string{"host.json": minimalHost, "A/function.json": `{"bindings":[{"type":"activityTrigger","name":"i","direction":"in"},{"type":"queue","name":"$return","direction":"out"}]}`})
	if _, err := Load(root, nil); err != nil {
		t.Error(err)
	}
}

func TestLocalSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  map[string]string
		err   string
	}{
		"absent":    {nil, map[string]string{}, ""},
		"values":    {map[string]string{"local.settings.json": `{"IsEncrypted":false,"values":{"A":"x=y","B":3,"C":true},}`}, map[string]string{"A": "x=y", "B": "3", "C": "true"}, ""},
		"no values": {map[string]string{"local.settings.json": `{}`}, map[string]string{}, ""},
		"encrypted": {map[string]string{"local.settings.json": `{"IsEncrypted":true,"Values":{"A":"secret"}}`}, nil, "func settings decrypt"},
		"object":    {map[string]string{"local.settings.json": `{"Values":{"A":{}}}`}, nil, `the value of "A"`},
		"bad":       {map[string]string{"local.settings.json": `{`}, nil, "local.settings.json: not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := LocalSettings(writeApp(t, c.files))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || !maps.Equal(got, c.want) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":"2.0","functionTimeout":"1.00:05:00",/* c */"extensions":{"durableTask":{"hubName":"%X%"}}}`))
	f.Add([]byte(`{"bindings":[{"type":"orchestrationTrigger","direction":"in","name":"c"},]}`))
	f.Add([]byte(`{"Values":{"a":1e400}}`))
	f.Add([]byte("\ufeff[{]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if host, err := parseHost(text, environment{"x": "Hub"}); err == nil {
			if host.FunctionTimeout < 0 || host.MaxConcurrentActivities < 1 || host.HubName == "" {
				t.Errorf("accepted %+v", host)
			}
		}
		if function, disabled, err := parseFunction("F", text, nil); err == nil && !disabled && function.Trigger().Name == "" {
			t.Errorf("accepted %+v without a trigger", function)
		}
		_ = parseLocalSettings(text, map[string]string{})
	})
}
