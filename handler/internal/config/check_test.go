package config

import (
	"maps"
	"strings"
	"testing"
)

const goodHost = `{
  "version": "2.0",
  "functionTimeout": "00:05:00",
  "extensionBundle": {
    "id": "Microsoft.Azure.Functions.ExtensionBundle",
    "version": "[4.*, 5.0.0)"
  },
  "customHandler": {"description": {"defaultExecutablePath": "app"}},
  "extensions": {
    "durableTask": {"hubName": "MyHub"},
    "sendGrid": {"from": "no-reply@example.com"}
  }
}`

// goodApp is an app without any problem.
var goodApp = map[string]string{
	"app":                 "the binary",
	"host.json":           goodHost,
	"local.settings.json": `{"Values":{"FUNCTIONS_WORKER_RUNTIME":"custom","AzureWebJobsStorage":"UseDevelopmentStorage=true","Bus":"Endpoint=…","Key":"","Queue":"q"}}`,
	"Start/function.json": `{"bindings": [
  {"name": "item", "type": "serviceBusTrigger", "direction": "in", "queueName": "%Queue%", "connection": "Bus"},
  {"name": "starter", "type": "durableClient", "direction": "in"}
]}`,
	"Orch/function.json": `{"bindings": [
  {"name": "context", "type": "orchestrationTrigger", "direction": "in"},
  {"name": "mail", "type": "sendGrid", "direction": "out", "apiKey": "Key", "from": "no-reply@example.com", "to": "ops@example.com", "subject": "Failed"}
]}`,
}

// changed returns goodApp with other texts; an empty text removes the file.
func changed(files map[string]string) map[string]string {
	app := maps.Clone(goodApp)
	maps.Copy(app, files)
	maps.DeleteFunc(app, func(_, text string) bool { return text == "" })
	return app
}

// in replaces a part of one file of goodApp.
func in(file, old, text string) map[string]string {
	if !strings.Contains(goodApp[file], old) {
		panic(file + " has no " + old)
	}
	return map[string]string{file: strings.Replace(goodApp[file], old, text, 1)}
}

// TestCheck: what the host refuses or drops is an error, with its line. An empty want means no problem.
func TestCheck(t *testing.T) {
	t.Parallel()
	bus, orch := "Start/function.json", "Orch/function.json"
	const version = `"version": "2.0"`
	for name, c := range map[string]struct {
		files   map[string]string
		environ []string
		want    []string // beginnings of the problems
	}{
		"nothing wrong":          {},
		"comments, commas, BOM":  {files: map[string]string{"host.json": "\ufeff// mine\n" + strings.Replace(goodHost, `"}}`, `"},}`, 1)}},
		"several at once":        {files: map[string]string{"host.json": `{"version":"1","functionTimeout":"soon"}`, "Orch/function.json": `{`}, want: []string{"Orch/function.json:1: not valid JSON", `host.json: there is no "customHandler"`, `host.json:1: "version" is "1"`, `host.json:1: functionTimeout: "soon"`, `host.json:1: there is no "extensionBundle"`}},
		"no host.json":           {files: map[string]string{"host.json": ""}, want: []string{"host.json: host.json not found"}},
		"no functions":           {files: map[string]string{bus: "", orch: ""}, want: []string{".: there is no function"}},
		"version is a number":    {files: in("host.json", version, `"version": 2.0`), want: []string{`host.json:2: "version" is 2.0`}},
		"Version":                {files: in("host.json", version, `"Version": "2.0"`), want: []string{`host.json:2: the host finds "version" in small letters only`}},
		"Version as well":        {files: in("host.json", version, version+`, "Version": "1.0"`)},
		"binding name":           {files: in(bus, `"item"`, `"my_item"`), want: []string{`Start/function.json:2: bindings[0]: "my_item" is not a binding's name`}},
		"binding name -":         {files: in(bus, `"starter"`, `"durable-starter"`), want: []string{`Start/function.json:3: bindings[1]: "durable-starter"`}},
		"no direction is in":     {files: in(bus, `, "direction": "in", "queueName"`, `, "queueName"`)},
		"cardinality many":       {files: in(bus, `"connection"`, `"cardinality": "many", "connection"`), want: []string{"Start/function.json:2: item has cardinality many"}},
		"cardinality one":        {files: in(bus, `"connection"`, `"cardinality": "one", "connection"`)},
		"cardinality several":    {files: in(bus, `"connection"`, `"cardinality": "several", "connection"`), want: []string{"Start/function.json:2: bindings[0]: the cardinality"}},
		"Bindings":               {files: in(bus, `"bindings"`, `"Bindings"`), want: []string{`Start/function.json:1: the host finds "bindings" in small letters only`}},
		"scriptFile":             {files: in(bus, `]}`, "],\n\"scriptFile\": \"run.go\"}"), want: []string{`Start/function.json:5: scriptFile "run.go" does not exist`}},
		"scriptFile is there":    {files: map[string]string{bus: strings.Replace(goodApp[bus], `]}`, `], "scriptFile": "run.go"}`, 1), "Start/run.go": "package start"}},
		"retry":                  {files: in(bus, `]}`, "],\n\"retry\": {\"strategy\": \"linear\", \"maxRetryCount\": 1}}"), want: []string{"Start/function.json:5: retry.strategy"}},
		"retry of the host":      {files: in("host.json", version, version+`, "retry": {"strategy": "fixedDelay"}`), want: []string{"host.json:2: retry.maxRetryCount is missing"}},
		"no bundle":              {files: in("host.json", `"extensionBundle"`, `"extensionBundles"`), want: []string{`host.json:1: there is no "extensionBundle"`}},
		"extensions of its own":  {files: map[string]string{"host.json": strings.Replace(goodHost, `"extensionBundle"`, `"none"`, 1), "bin/extensions.json": "{}"}},
		"bundle 3":               {files: in("host.json", "[4.*, 5.0.0)", "[3.*, 4.0.0)"), want: []string{`host.json:6: extensionBundle.version "[3.*, 4.0.0)" ends below 4`}},
		"bundle without version": {files: in("host.json", `"version": "[4.*, 5.0.0)"`, `"note": ""`), want: []string{"host.json:4: extensionBundle.version is missing"}},
		"bundle's version":       {files: in("host.json", "[4.*, 5.0.0)", "4.x"), want: []string{`host.json:6: extensionBundle.version "4.x" is not a range`}},
		"functions":              {files: in("host.json", version, version+",\n\"functions\": [\"orch\", \"Gone\"]"), want: []string{"host.json:3: warning: functions names \"Gone\"", "host.json:3: warning: functions leaves out Start"}},
		"functions by variable":  {environ: []string{"AzureFunctionsJobHost__functions__0=Start"}, want: []string{"host.json:1: warning: functions leaves out Orch"}},
		"storage provider":       {files: in("host.json", `"hubName": "MyHub"`, `"storageProvider": {"type": "postgres"}`), want: []string{`host.json:10: extensions.durableTask.storageProvider.type "postgres" is not known`}},
		"DTS, any hub name":      {files: in("host.json", `"hubName": "MyHub"`, `"hubName": "my-hub", "storageProvider": {"type": "AzureManaged", "connectionStringName": "Bus"}`)},
		"DTS without connection": {files: in("host.json", `"hubName": "MyHub"`, `"storageProvider": {"type": "azureManaged"}`), want: []string{"host.json:10: storageProvider needs a connectionStringName"}},
		"MSSQL, no setting":      {files: in("host.json", `"hubName": "MyHub"`, `"storageProvider": {"type": "mssql", "connectionStringName": "SQLDB"}`), want: []string{"host.json:10: storageProvider.connectionStringName names the setting SQLDB"}},
		"17 partitions":          {files: in("host.json", `"hubName": "MyHub"`, `"storageProvider": {"partitionCount": 17}`), want: []string{"host.json:10: extensions.durableTask.storageProvider.partitionCount"}},
		"visibility":             {files: in("host.json", `"hubName": "MyHub"`, `"storageProvider": {"controlQueueVisibilityTimeout": "00:00:30"}`), want: []string{`host.json:10: extensions.durableTask.storageProvider.controlQueueVisibilityTimeout is "00:00:30"`}},
		"httpWorker":             {files: in("host.json", `"customHandler"`, `"httpWorker"`), want: []string{`host.json:8: warning: "httpWorker" is the old name`}},
		"empty customHandler":    {files: in("host.json", `{"description": {"defaultExecutablePath": "app"}}`, `{}`), want: []string{"host.json:8: customHandler.description.defaultExecutablePath is missing"}},
		"no customHandler":       {files: in("host.json", `"customHandler"`, `"custom"`), want: []string{`host.json: there is no "customHandler"`}},
		"binary not built":       {files: map[string]string{"app": ""}, want: []string{"host.json:8: warning: the binary app is not built yet"}},
		"binary is a folder":     {files: map[string]string{"app": "", "app/main.go": "package main"}, want: []string{`host.json:8: defaultExecutablePath "app" is a directory`}},
		"extensions in logging":  {files: in("host.json", `"extensions"`, `"logging": {"extensions": {}}, "extensions"`), want: []string{`host.json:9: "extensions" lies below "logging"`}},
		"extensions twice":       {files: in("host.json", version, version+`, "Extensions": {"DurableTask": {"maxConcurrentActivityFunctions": 3}}`)},
		"24 days":                {files: in("host.json", "00:05:00", "24:00:00"), want: []string{"host.json:3: warning: functionTimeout is above 10 minutes"}},
		"extended sessions":      {files: in("host.json", `"hubName": "MyHub"`, `"extendedSessionsEnabled": true`), want: []string{"host.json:10: extensions.durableTask.extendedSessionsEnabled"}},
		"forwarding":             {files: map[string]string{"host.json": strings.Replace(goodHost, `"customHandler": {`, `"customHandler": {"enableForwardingHttpRequest": true, `, 1), "Web/function.json": `{"bindings":[{"name":"req","type":"httpTrigger"},{"name":"res","type":"http","direction":"out"},{"name":"c","type":"durableClient"}]}`, "Plain/function.json": `{"bindings":[{"name":"req","type":"httpTrigger"},{"name":"res","type":"http","direction":"out"}]}`}, want: []string{"Web/function.json:1: warning: customHandler.enableForwardingHttpRequest does not forward"}},
		"route":                  {files: web(`"route": "/x"`), want: []string{`Web/function.json:3: the route "/x" is none`}},
		"route of another":       {files: web(`"route": "{n:int}/b"`, `"route": "{m:int}/B"`), want: []string{`Web2/function.json:3: the route "{m:int}/B" is the same as that of function Web`}},
		"route, other method":    {files: web(`"route": "b", "methods": ["get"]`, `"route": "b", "methods": ["post"]`)},
		"route by the name":      {files: web(`"route": "web2"`, `"authLevel": "admin"`), want: []string{`Web2/function.json:2: the route "Web2" is the same as that of function Web`}},
		"route of a bad host":    {files: merged(web(`"route": "admin/x"`), in("host.json", `"2.0"`, `"3.0"`)), want: []string{`host.json:2: "version" is "3.0"`}},
		"route of the host":      {files: merged(web(`"route": "admin/x"`), in("host.json", `"durableTask"`, `"http": {"routePrefix": ""}, "durableTask"`)), want: []string{`Web/function.json:3: the route "admin/x" is the host's own`}},
		"routes, one unlisted":   {files: merged(web(`"route": "b"`, `"route": "b"`), in("host.json", version, version+`, "functions": ["Web", "Start", "Orch"]`)), want: []string{"host.json:2: warning: functions leaves out Web2"}},
		"auth level":             {files: web(`"authLevel": "everybody"`), want: []string{`Web/function.json:3: the authLevel of "req" is "everybody"`}},
		"methods":                {files: web(`"methods": "get"`), want: []string{`Web/function.json:3: the methods of "req": they must be a list`}},
		"schedule":               {files: timer("often"), want: []string{`Tick/function.json:2: the schedule of "timer" is "often"`}},
		"schedule, never":        {files: timer("0 0 0 30 2 *"), want: []string{`Tick/function.json:2: the schedule of "timer" is "0 0 0 30 2 *": no day is like that`}},
		"schedule by a setting":  {files: timer("%CRON%"), environ: []string{"CRON=0 * * * * *"}},
		"schedule, no setting":   {files: timer("%CRON%"), want: []string{`Tick/function.json:2: schedule of timer names the setting CRON`}},
		"schedule, bad setting":  {files: timer("%CRON%"), environ: []string{"CRON=often"}, want: []string{`Tick/function.json:2: the schedule of "timer" is "often"`}},
		"a disabled function":    {files: map[string]string{orch: `{"disabled": true, "bindings": []}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, Check(writeApp(t, changed(c.files)), c.environ), c.want)
		})
	}
}

// web returns functions with an httpTrigger that has these properties, on the third line.
func web(properties ...string) map[string]string {
	files := map[string]string{}
	for i, p := range properties {
		folder := "Web" + []string{"", "2"}[i]
		files[folder+"/function.json"] = `{"bindings": [
  {"name": "req", "type": "httpTrigger",
  ` + p + `}, {"name": "res", "type": "http", "direction": "out"}
]}`
	}
	return files
}

// timer returns a function with a timerTrigger.
func timer(schedule string) map[string]string {
	return map[string]string{"Tick/function.json": `{"bindings": [
  {"name": "timer", "type": "timerTrigger", "schedule": "` + schedule + `"}
]}`}
}

func merged(files, more map[string]string) map[string]string {
	maps.Copy(files, more)
	return files
}

// TestCheckSettings: a setting that is named must exist, in any of the forms in which the host looks for it.
func TestCheckSettings(t *testing.T) {
	t.Parallel()
	settings := func(values string) map[string]string {
		return map[string]string{"local.settings.json": `{"Values":{` + values + `}}`}
	}
	const base = `"FUNCTIONS_WORKER_RUNTIME":"custom","AzureWebJobsStorage":"x","Queue":"q","Key":""`
	noBus := []string{"Start/function.json:2: connection of item names the setting Bus, which there is not"}
	for name, c := range map[string]struct {
		files   map[string]string
		environ []string
		want    []string
	}{
		"no runtime":          {files: settings(`"AzureWebJobsStorage":"x","Queue":"q","Key":"","Bus":"x"`), want: []string{"local.settings.json: setting FUNCTIONS_WORKER_RUNTIME is missing"}},
		"native":              {files: settings(base + `,"Bus":"x"`), environ: []string{"FUNCTIONS_WORKER_RUNTIME=native"}, want: []string{`local.settings.json: setting FUNCTIONS_WORKER_RUNTIME is "native"`}},
		"no storage":          {files: settings(`"FUNCTIONS_WORKER_RUNTIME":"custom","Queue":"q","Key":"","Bus":"x"`), want: []string{"local.settings.json: setting AzureWebJobsStorage is missing"}},
		"storage by identity": {files: settings(`"FUNCTIONS_WORKER_RUNTIME":"custom","Queue":"q","Key":"","Bus":"x","AzureWebJobsStorage__accountName":"acc"`)},
		"no connection":       {files: settings(base), want: noBus},
		"by variable":         {files: settings(base), environ: []string{"bus=x"}},
		"managed identity":    {files: settings(base + `,"Bus__fullyQualifiedNamespace":"x.servicebus.windows.net"`)},
		"colons":              {files: settings(base + `,"Bus:fullyQualifiedNamespace":"x"`)},
		"a queue's":           {files: settings(base + `,"bus__queueServiceUri":"https://x"`)},
		"AzureWebJobs prefix": {files: settings(base + `,"AzureWebJobsBus":"x"`)},
		"another's prefix":    {files: settings(base + `,"Business":"x"`), want: noBus},
		"percent":             {files: settings(`"FUNCTIONS_WORKER_RUNTIME":"custom","AzureWebJobsStorage":"x","Key":"","Bus":"x"`), want: []string{"Start/function.json:2: queueName of item names the setting Queue"}},
		"SendGrid's key":      {files: settings(`"FUNCTIONS_WORKER_RUNTIME":"custom","AzureWebJobsStorage":"x","Queue":"q","Bus":"x"`), want: []string{"Orch/function.json:3: apiKey of mail names the setting Key"}},
		"connection string":   {files: in("Start/function.json", `"Bus"`, `"Endpoint=sb://x;SharedAccessKey=secret"`), want: []string{"Start/function.json:2: connection of item must be the name of a setting"}},
		"default connection":  {files: in("Start/function.json", `, "connection": "Bus"`, ``), want: []string{"Start/function.json:2: item, without a connection, names the setting AzureWebJobsServiceBus"}},
		"example file":        {files: map[string]string{"local.settings.json": "", "local.settings.example.json": goodApp["local.settings.json"]}},
		"encrypted":           {files: map[string]string{"local.settings.json": `{"IsEncrypted":true}`}, environ: []string{"FUNCTIONS_WORKER_RUNTIME=custom", "AzureWebJobsStorage=x", "Queue=q", "Key=k", "Bus=x"}, want: []string{"local.settings.json: its values are encrypted"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantProblems(t, Check(writeApp(t, changed(c.files)), c.environ), c.want)
		})
	}
}

func wantProblems(t *testing.T, got []Problem, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
		return
	}
	for i, p := range got {
		text := p.String()
		if !strings.HasPrefix(text, want[i]) || strings.Contains(text, "\n") || strings.Contains(text, "secret") {
			t.Errorf("problem %d: %s, want one line that begins with %s", i, text, want[i])
		}
	}
}

// TestLoadRefuses: what the host refuses also stops the handler and the local host; what a running host has accepted does
// not.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  string // empty: it loads
	}{
		"binding name":        {in("Start/function.json", `"item"`, `"my_item"`), "Start/function.json: bindings[0]:"},
		"scriptFile":          {in("Start/function.json", `]}`, `], "scriptFile": "run.go"}`), "Start/function.json: scriptFile"},
		"storage provider":    {in("host.json", `"hubName": "MyHub"`, `"storageProvider": {"type": "postgres"}`), "host.json: extensions.durableTask.storageProvider.type"},
		"empty customHandler": {in("host.json", `{"description": {"defaultExecutablePath": "app"}}`, `{}`), "host.json: customHandler"},
		"no bundle":           {in("host.json", `"extensionBundle"`, `"none"`), ""},
		"no customHandler":    {in("host.json", `"customHandler"`, `"none"`), ""},
		"httpWorker":          {in("host.json", `"customHandler"`, `"httpWorker"`), ""},
		"extensions twice":    {in("host.json", `"version": "2.0"`, `"version": "2.0", "Extensions": {}`), ""},
		"24 days":             {in("host.json", "00:05:00", "24:00:00"), ""},
		"hub name on DTS":     {in("host.json", `"hubName": "MyHub"`, `"hubName": "my-hub", "storageProvider": {"type": "azureManaged"}`), ""},
		"no settings":         {map[string]string{"local.settings.json": ""}, ""},
	} {
		_, err := Load(writeApp(t, changed(c.files)), nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestFunctionsList: like the host, we load only the listed functions.
func TestFunctionsList(t *testing.T) {
	t.Parallel()
	root := writeApp(t, changed(in("host.json", `"version": "2.0"`, `"version": "2.0", "functions": ["orch"]`)))
	for name, c := range map[string]struct {
		environ []string
		want    string
	}{
		"in host.json": {nil, "Orch"},
		"by variable":  {[]string{"AzureFunctionsJobHost__functions__0=START"}, "Start"},
	} {
		app, err := Load(root, c.environ)
		if err != nil || len(app.Functions) != 1 || app.Functions[c.want].Name != c.want || len(app.Disabled) != 1 {
			t.Errorf("%s: %+v, %v", name, app, err)
		}
	}
}

func TestEndsBelow4(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]bool{ // below, ok
		"[4.*, 5.0.0)": {false, true}, "[4.0.0, 5.0.0)": {false, true}, "[3.3.0, 5.0.0)": {false, true}, "[4.2.0]": {false, true},
		"4.0.0": {false, true}, "[4.*, )": {false, true}, "[3.*, 4.0.0)": {true, true}, "[3.*, 4.0.0]": {false, true}, "[1.*, 2.0.0)": {true, true},
		"[3.36.0]": {true, true}, "(, 4.0)": {true, true}, "[2.*, 4.1)": {false, true},
		"": {false, false}, "latest": {false, false}, "[]": {false, false}, "4.x": {false, false}, "[4.*, 5.0.0": {false, false},
	} {
		if below, ok := endsBelow4(text); below != want[0] || ok != want[1] {
			t.Errorf("%q: %t, %t; want %t", text, below, ok, want)
		}
	}
}

// FuzzCheck checks app roots with arbitrary files.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(goodHost), []byte(goodApp["Start/function.json"]))
	f.Add([]byte("{\"version\":2,\n\"Functions\":[1]}"), []byte(`{"bindings":[{"type":"httpTrigger","name":"%"}]}`))
	f.Fuzz(func(t *testing.T, host, function []byte) {
		root := writeApp(t, map[string]string{"host.json": string(host), "F/function.json": string(function)})
		lines := max(len(host), len(function)) + 1
		problems := Check(root, nil)
		for _, p := range problems {
			if p.Text == "" || p.Line < 0 || p.Line > lines {
				t.Errorf("%+v", p)
			}
		}
		if _, err := Load(root, nil); err != nil && len(problems) == 0 {
			t.Errorf("Load refuses what Check takes: %v", err)
		}
	})
}

// TestSendGridDefaults: the addresses in host.json count where the function names none.
func TestSendGridDefaults(t *testing.T) {
	t.Parallel()
	host := in("host.json", `"from": "no-reply@example.com"`, `"from": "host@example.com", "to": "all@example.com"`)
	host["Plain/function.json"] = `{"bindings":[{"name":"input","type":"activityTrigger"},{"name":"mail","type":"sendGrid","direction":"out"},{"name":"q","type":"queue","direction":"out"}]}`
	app, err := Load(writeApp(t, changed(host)), nil)
	if err != nil {
		t.Fatal(err)
	}
	mail, plain := app.Functions["Orch"].Bindings[1], app.Functions["Plain"].Bindings
	if mail.Property("from") != "no-reply@example.com" || mail.Property("to") != "ops@example.com" {
		t.Errorf("its own: %v", mail.Properties)
	}
	if plain[1].Property("from") != "host@example.com" || plain[1].Property("to") != "all@example.com" || plain[2].Property("to") != "" {
		t.Errorf("the host's: %v, %v", plain[1].Properties, plain[2].Properties)
	}
}
