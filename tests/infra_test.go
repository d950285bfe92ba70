package tests

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"example.com/durablefunctions/internal/testkit"
)

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	bicepParam  = regexp.MustCompile(`(?m)^param (\w+) \w+( = )?`)
	bicepOutput = regexp.MustCompile(`(?m)^output (\w+) \w+ = `)
	bicepModule = regexp.MustCompile(`(?ms)^module (\w+) '([^']+)' = .*?^  params: \{\n(.*?)^  \}`)
	bicepGiven  = regexp.MustCompile(`(?m)^    (\w+): `)
	bicepUse    = regexp.MustCompile(`(\w+)!?\.outputs\.(\w+)`)
)

// TestBicepModules: each module exists, gets exactly the parameters that it needs, and has the outputs that are used. Bicep's own
// compiler checks more; .ci/run calls it on machines that have it.
func TestBicepModules(t *testing.T) {
	t.Parallel()
	main := readText(t, "infra/main.bicep")
	outputs := map[string][]string{}
	for _, m := range bicepModule.FindAllStringSubmatch(main, -1) {
		module := readText(t, "infra/"+m[2])
		var given, needed, known []string
		for _, p := range bicepGiven.FindAllStringSubmatch(m[3], -1) {
			given = append(given, p[1])
		}
		for _, p := range bicepParam.FindAllStringSubmatch(module, -1) {
			known = append(known, p[1])
			if p[2] == "" {
				needed = append(needed, p[1])
			}
		}
		for _, p := range needed {
			if !slices.Contains(given, p) {
				t.Errorf("%s does not get its parameter %s", m[2], p)
			}
		}
		for _, p := range given {
			if !slices.Contains(known, p) {
				t.Errorf("%s has no parameter %s", m[2], p)
			}
		}
		for _, o := range bicepOutput.FindAllStringSubmatch(module, -1) {
			outputs[m[1]] = append(outputs[m[1]], o[1])
		}
	}
	if len(outputs) != 7 {
		t.Errorf("found the modules %v, want 7", slices.Sorted(maps.Keys(outputs)))
	}
	for _, u := range bicepUse.FindAllStringSubmatch(main, -1) {
		if !slices.Contains(outputs[u[1]], u[2]) {
			t.Errorf("%s has no output %s", u[1], u[2])
		}
	}
}

// bicepFunctions are the functions of Bicep that infra/ calls.
var bicepFunctions = []string{"empty", "environment", "guid", "max", "min", "subscription", "subscriptionResourceId", "toLower", "union", "uniqueString"}

var (
	bicepDeclared = regexp.MustCompile(`(?m)^\s*(?:param|var|resource|module)\s+(\w+)\b|\bfor (\w+) in\b`)
	bicepTyped    = regexp.MustCompile(`(?m)^(param|output) (\w+) (\w+)`)
	bicepName     = regexp.MustCompile(`[.@]?\b[A-Za-z_]\w*\b\s*[(:]?`)
)

// bicepCode returns a text without its comments and strings. Expressions that are interpolated into strings stay.
func bicepCode(text string) string {
	var code strings.Builder
	var depths []int // the number of open braces in each open interpolation
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case inString && strings.HasPrefix(text[i:], "${"):
			inString, depths = false, append(depths, 0)
			i++
			code.WriteByte('$')
		case inString:
			inString = c != '\''
		case c == '\'':
			inString = true
			code.WriteString("''")
		case strings.HasPrefix(text[i:], "//") || c == '#' && (i == 0 || text[i-1] == '\n'):
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case c == '}' && len(depths) > 0 && depths[len(depths)-1] == 0:
			inString, depths = true, depths[:len(depths)-1]
			code.WriteByte(' ')
		default:
			if n := len(depths); n > 0 && c == '{' {
				depths[n-1]++
			} else if n > 0 && c == '}' {
				depths[n-1]--
			}
			code.WriteByte(c)
		}
	}
	return code.String()
}

// bicepNames returns the names that a file declares, and the names that it uses.
func bicepNames(text string) (declared, used []string) {
	text = bicepCode(text)
	for _, m := range bicepDeclared.FindAllStringSubmatch(text, -1) {
		declared = append(declared, m[1]+m[2])
	}
	text = regexp.MustCompile(`(?m)^(targetScope|import).*$`).ReplaceAllString(text, "")
	text = bicepTyped.ReplaceAllString(text, "")
	text = regexp.MustCompile(`(?m)^\s*(resource|module) \w+ ''( existing)? =|^var \w+ =|\bfor \w+ in\b`).ReplaceAllString(text, "")
	for _, line := range strings.Split(text, "\n") {
		for n, m := range bicepName.FindAllStringIndex(line, -1) {
			name := line[m[0]:m[1]]
			bare := strings.TrimRight(name, " (:")
			before := strings.TrimSpace(line[:m[0]])
			isKey := strings.HasSuffix(name, ":") && n == 0 && before == ""
			isMember := name[0] == '.' || name[0] == '@'
			isCall := strings.HasSuffix(name, "(")
			if isKey || isMember || slices.Contains([]string{"if", "true", "false", "null"}, bare) || isCall && slices.Contains(bicepFunctions, bare) {
				continue
			}
			used = append(used, bare)
		}
	}
	return declared, used
}

// TestBicepNames: every used name is declared exactly once, and every declared name is used.
func TestBicepNames(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "infra", "*.bicep"))
	modules, err2 := filepath.Glob(filepath.Join(root, "infra", "modules", "*.bicep"))
	if err != nil || err2 != nil || len(files) != 1 || len(modules) != 7 {
		t.Fatalf("found %q and %q", files, modules)
	}
	main := readText(t, "infra/main.bicep")
	for _, file := range append(files, modules...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		declared, used := bicepNames(string(text))
		for n, name := range declared {
			if slices.Contains(declared[:n], name) {
				t.Errorf("%s declares %s twice", filepath.Base(file), name)
			}
		}
		for _, name := range used {
			if !slices.Contains(declared, name) {
				t.Errorf("%s uses %s, which it does not declare", filepath.Base(file), name)
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:param|var) (\w+)`).FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(used, m[1]) {
				t.Errorf("%s does not use %s", filepath.Base(file), m[1])
			}
		}
		if name := "modules/" + filepath.Base(file); filepath.Base(file) != "main.bicep" && !strings.Contains(main, "'"+name+"'") {
			t.Errorf("main.bicep does not use %s", name)
		}
	}
	// This test must find mistakes.
	_, used := bicepNames("param a string\nvar b = 'x-${aa}/${c.d}'\nresource r 'T@1' = if (!empty(e)) {\n  name: f ? 'g' : h(i)\n  k: l.outputs.m // n\n}\n")
	if want := []string{"aa", "c", "e", "f", "h", "i", "l"}; !slices.Equal(used, want) {
		t.Errorf("found the names %q, want %q", used, want)
	}
}

// TestBicepTypes: each parameter of a module gets a value of its type, as far as the text shows the value's type.
func TestBicepTypes(t *testing.T) {
	t.Parallel()
	main := readText(t, "infra/main.bicep")
	types := map[string]string{}
	for _, m := range bicepTyped.FindAllStringSubmatch(main, -1) {
		types[m[2]] = m[3]
	}
	for _, m := range regexp.MustCompile(`(?m)^var (\w+) = (.*)$`).FindAllStringSubmatch(main, -1) {
		types[m[1]] = bicepType(m[2])
	}
	modules := map[string]string{}
	for _, m := range bicepModule.FindAllStringSubmatch(main, -1) {
		modules[m[1]] = readText(t, "infra/"+m[2])
	}
	seen := 0
	for _, m := range bicepModule.FindAllStringSubmatch(main, -1) {
		for _, given := range regexp.MustCompile(`(?m)^    (\w+): (.*)$`).FindAllStringSubmatch(m[3], -1) {
			want := bicepTypeOf(modules[m[1]], "param", given[1])
			got := bicepType(given[2])
			if name, ok := types[given[2]]; ok {
				got = name
			} else if o := bicepUse.FindStringSubmatch(given[2]); o != nil && o[0] == given[2] {
				got = bicepTypeOf(modules[o[1]], "output", o[2])
			}
			if got == "" {
				continue
			}
			if seen++; got != want {
				t.Errorf("%s: parameter %s is %s, and gets %s, which is %s", m[2], given[1], want, given[2], got)
			}
		}
	}
	if seen < 35 {
		t.Errorf("the types of %d parameters were seen", seen)
	}
}

// bicepType returns the type of a literal, and "" for any other expression.
func bicepType(expression string) string {
	switch {
	case strings.HasPrefix(expression, "'"):
		return "string"
	case strings.HasPrefix(expression, "{"), strings.HasPrefix(expression, "union({"):
		return "object"
	case strings.HasPrefix(expression, "["):
		return "array"
	case expression == "true", expression == "false", !strings.Contains(expression, "?") && (strings.Contains(expression, " == ") || strings.Contains(expression, " != ")):
		return "bool"
	case regexp.MustCompile(`^\d+$`).MatchString(expression):
		return "int"
	}
	return ""
}

func bicepTypeOf(text, kind, name string) string {
	for _, m := range bicepTyped.FindAllStringSubmatch(text, -1) {
		if m[1] == kind && m[2] == name {
			return m[3]
		}
	}
	return "nothing"
}

// builtInRoles are the roles that infra/ assigns, by their ids, which are the same everywhere in Azure.
var builtInRoles = map[string]string{
	"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
	"974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
	"0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
	"090c5cfd-751d-490a-894a-3ce6f1109419": "Azure Service Bus Data Owner",
	"4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
	"3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
	"0ad04412-c4d5-4796-b79c-f76d14c8d402": "Durable Task Data Contributor",
}

// TestInfraRules checks for what Azure would refuse, and for what would cut the app off from its services.
func TestInfraRules(t *testing.T) {
	t.Parallel()
	modules, err := filepath.Glob(filepath.Join(root, "infra", "modules", "*.bicep"))
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, file := range modules {
		text := readText(t, "infra/modules/"+filepath.Base(file))
		for _, id := range regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).FindAllString(text, -1) {
			if builtInRoles[id] == "" {
				t.Errorf("%s: %s is not a role that this test knows", filepath.Base(file), id)
			}
			given[id] = true
		}
		if n := strings.Count(text, "Microsoft.Authorization/roleAssignments@"); n != strings.Count(text, "principalType: 'ServicePrincipal'") {
			t.Errorf("%s: a role for a new identity fails without its principalType", filepath.Base(file))
		}
	}
	if len(given) != len(builtInRoles) {
		t.Errorf("infra/ gives the roles %v, want %v", given, builtInRoles)
	}
	bus := readText(t, "infra/modules/servicebus.bicep")
	if strings.Contains(bus, "requiresDuplicateDetection: true") != strings.Contains(bus, "name: 'Standard'") {
		t.Error("duplicate detection needs the Standard tier of Service Bus")
	}
	app := readText(t, "infra/modules/app.bicep")
	for _, want := range []string{"name: 'custom'", "version: '1.0'", "name: 'durable'", "keyVaultReferenceIdentity: identityId", "userAssignedIdentityResourceId: identityId", "var planSettings = isFlex ? {} :", "var isWindows = plan == 'Consumption'"} {
		if !strings.Contains(app, want) {
			t.Errorf("app.bicep has no %s", want)
		}
	}
	main := readText(t, "infra/main.bicep")
	for _, connection := range []string{"AzureWebJobsStorage", "MyServiceBusConnection"} {
		for _, property := range []string{"__credential: 'managedidentity'", "__clientId: identity.outputs.clientId"} {
			if !strings.Contains(main, connection+property) {
				t.Errorf("main.bicep has no %s%s", connection, property)
			}
		}
	}
	// The app has the command that azd prints at the end.
	command := regexp.MustCompile(`output WATCH_COMMAND string = 'go run \. (.*)'`).FindStringSubmatch(main)[1]
	args := strings.Fields(regexp.MustCompile(`\$\{[^}]*\}`).ReplaceAllString(command, "X"))
	env, dir := fakeTools(t, map[string]string{"az": "echo nobody >&2; exit 1"})
	if r := run(t, env, "", args...); !strings.Contains(r.stderr, "az does not tell about X") || len(calls(t, dir, "az")) != 1 {
		t.Errorf("%s: exit code %d, %s", command, r.code, r.stderr)
	}
}

// TestAzdParameters: azd sets all parameters that main.bicep needs, and only parameters that main.bicep has.
func TestAzdParameters(t *testing.T) {
	t.Parallel()
	var file struct {
		Parameters map[string]struct{ Value string }
	}
	if err := json.Unmarshal([]byte(readText(t, "infra/main.parameters.json")), &file); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, p := range bicepParam.FindAllStringSubmatch(readText(t, "infra/main.bicep"), -1) {
		known[p[1]] = true
		if _, given := file.Parameters[p[1]]; p[2] == "" && !given {
			t.Errorf("azd does not fill %s", p[1])
		}
	}
	for name, p := range file.Parameters {
		if !known[name] || !strings.HasPrefix(p.Value, "${") {
			t.Errorf("parameter %s, %q", name, p.Value)
		}
	}
	hooks, main, given := readText(t, "azure.yaml"), readText(t, "infra/main.bicep"), readText(t, "infra/main.parameters.json")
	for _, m := range regexp.MustCompile(`\$(?:env:|\{)?([A-Z_]+)`).FindAllStringSubmatch(hooks, -1) {
		if name := m[1]; !strings.Contains(main, "output "+name+" ") && !strings.Contains(given, "${"+name+"=") {
			t.Errorf("azure.yaml uses %s, which main.bicep does not put out and main.parameters.json does not read", name)
		}
	}
}

// TestAzdHook: if the plan does not support the backend, azd stops before it creates anything.
func TestAzdHook(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no sh")
	}
	var project struct {
		Hooks map[string]map[string]struct{ Shell, Run string }
	}
	if err := yaml.Unmarshal([]byte(readText(t, "azure.yaml")), &project); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]bool{
		"": true, "DURABLE_BACKEND=dts": true, "DURABLE_BACKEND=mssql": false, "DURABLE_BACKEND=mssql PLAN=FlexConsumption": false, "DURABLE_BACKEND=mssql PLAN=Consumption": false,
		"DURABLE_BACKEND=mssql PLAN=ElasticPremium": true, "DURABLE_BACKEND=mssql PLAN=Dedicated": true, "DURABLE_BACKEND=storage PLAN=FlexConsumption": true,
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", project.Hooks["preprovision"]["posix"].Run)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, strings.Fields(env)...)
		if out, err := cmd.CombinedOutput(); (err == nil) != want || !want && !strings.Contains(string(out), "azd env set PLAN") {
			t.Errorf("%s: %v, %s", env, err, out)
		}
	}
}

// TestHostsOfBackends: check accepts each host.json, together with the settings that infra/ gives the app. The files differ only
// in the backend.
func TestHostsOfBackends(t *testing.T) {
	t.Parallel()
	settings := regexp.MustCompile(`(?m)^\s+(\w+): `).FindAllStringSubmatch(readText(t, "infra/main.bicep"), -1)
	values := map[string]string{"FUNCTIONS_WORKER_RUNTIME": "custom"} // the app settings of modules/app.bicep
	for _, s := range settings {
		values[s[1]] = "MyTaskHub"
	}
	text, err := json.Marshal(map[string]any{"Values": values})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"host.json", "infra/hosts/dts.json", "infra/hosts/mssql.json"} {
		dir := t.TempDir()
		testkit.WriteFile(t, filepath.Join(dir, "app"), "")
		testkit.WriteFile(t, filepath.Join(dir, "host.json"), readText(t, host))
		testkit.WriteFile(t, filepath.Join(dir, "local.settings.json"), string(text))
		for _, f := range []string{"MyClientFunction", "MyOrchestration", "ProcessActivity"} {
			testkit.WriteFile(t, filepath.Join(dir, f, "function.json"), readText(t, f+"/function.json"))
		}
		if r := run(t, nil, "", "check", "--strict", dir); r.code != 0 {
			t.Errorf("%s: exit code %d, %s%s", host, r.code, r.stdout, r.stderr)
		}
		if got, want := withoutBackend(t, host), withoutBackend(t, "host.json"); got != want {
			t.Errorf("%s differs from host.json in more than the backend: %s", host, got)
		}
	}
}

func withoutBackend(t *testing.T, name string) string {
	t.Helper()
	var host map[string]any
	if err := json.Unmarshal([]byte(readText(t, name)), &host); err != nil {
		t.Fatal(err)
	}
	durable := host["extensions"].(map[string]any)["durableTask"].(map[string]any)
	delete(durable, "storageProvider")
	delete(durable, "hubName")
	text, err := json.Marshal(host)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEmulators: the emulators listen on this machine only, at the addresses in local.settings.json, and have the app's queue.
func TestEmulators(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct {
			Image string
			Ports []string
		}
	}
	if err := yaml.Unmarshal([]byte(readText(t, "compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	var ports []string
	for name, s := range compose.Services {
		if !strings.HasPrefix(s.Image, "mcr.microsoft.com/") {
			t.Errorf("%s is made of %q", name, s.Image)
		}
		for _, p := range s.Ports {
			inner, ok := strings.CutPrefix(p, "127.0.0.1:")
			if port, same, _ := strings.Cut(inner, ":"); !ok || port != same {
				t.Errorf("%s: port %s", name, p)
			} else {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	if want := []string{"10000", "10001", "10002", "5300", "5672", "8080", "8082"}; !slices.Equal(ports, want) {
		t.Errorf("ports %q, want %q", ports, want)
	}
	if settings := readText(t, "local.settings.json"); !strings.Contains(settings, "UseDevelopmentStorage=true") || !strings.Contains(settings, "UseDevelopmentEmulator=true") {
		t.Error("local.settings.json does not lead to the emulators")
	}
	queue := regexp.MustCompile(`"queueName": "(\w+)"`).FindStringSubmatch(readText(t, "MyClientFunction/function.json"))[1]
	for file, want := range map[string]string{"emulators/servicebus.json": `"Name": "` + queue + `"`, "infra/main.bicep": "queueName = '" + queue + "'"} {
		if !strings.Contains(readText(t, file), want) {
			t.Errorf("%s has no queue %s", file, queue)
		}
	}
	for _, file := range []string{"emulators/servicebus.json", ".vscode/tasks.json", ".vscode/launch.json"} {
		if !json.Valid([]byte(readText(t, file))) {
			t.Errorf("%s is not JSON", file)
		}
	}
}
