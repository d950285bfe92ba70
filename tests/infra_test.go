package tests

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
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

// TestBicepModules: each module is there, gets the parameters that it needs and no others, and has the outputs that are used.
// Bicep's own compiler says more, in .ci/run, where the machine has it.
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
			if strings.Count(module, p[1]) < 2 {
				t.Errorf("%s does not use its parameter %s", m[2], p[1])
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
	for _, c := range []string{"{}", "()", "[]"} {
		for _, file := range []string{"main.bicep", "modules/app.bicep", "modules/keyvault.bicep", "modules/storage.bicep"} {
			if text := readText(t, "infra/"+file); strings.Count(text, c[:1]) != strings.Count(text, c[1:]) {
				t.Errorf("%s: the %s do not match", file, c)
			}
		}
	}
}

// TestAzdParameters: azd fills parameters that main.bicep has, and all that it needs.
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
	hooks := readText(t, "azure.yaml")
	for _, m := range regexp.MustCompile(`"\$(\w+)"|\$env:(\w+)`).FindAllStringSubmatch(hooks, -1) {
		if name := m[1] + m[2]; !strings.Contains(readText(t, "infra/main.bicep"), "output "+name+" ") {
			t.Errorf("azure.yaml uses %s, which main.bicep does not put out", name)
		}
	}
}

// TestHostsOfBackends: check passes each host.json, and the settings that infra/ gives the app are all that it needs. They
// differ in the backend only.
func TestHostsOfBackends(t *testing.T) {
	t.Parallel()
	settings := regexp.MustCompile(`(?m)^\s+(\w+): `).FindAllStringSubmatch(readText(t, "infra/main.bicep"), -1)
	values := map[string]string{"FUNCTIONS_WORKER_RUNTIME": "custom"} // modules/app.bicep's
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

// TestEmulators: the emulators listen on this machine only, where local.settings.json looks for them, and have the app's queue.
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
