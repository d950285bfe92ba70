package tests

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"example.com/durablefunctions/internal/testkit"
)

// TestQueries: the queries of docs/operating.md read the fields that the handler logs, and the workbook has the same queries.
func TestQueries(t *testing.T) {
	t.Parallel()
	var queries []string
	for _, m := range regexp.MustCompile("(?s)```kusto\n(.*?)\n```").FindAllStringSubmatch(readText(t, "docs/operating.md"), -1) {
		queries = append(queries, m[1])
	}
	if len(queries) != 6 {
		t.Fatalf("found %d queries", len(queries))
	}
	h := startHandler(t)
	a := h.Post(t, "ProcessActivity", testkit.ActivityBody(`{"RecordId":"C-131","JobId":"job-1"}`))
	waitUntil(t, "the failed record is logged", func() bool { return h.out.Has("C-131") })
	line := regexp.MustCompile(`(?m)^.*level=ERROR.*$`).FindString(h.out.String())
	if a.Status != 200 || line == "" {
		t.Fatalf("answer %s, log %s", a, h.out)
	}
	keys := regexp.MustCompile(`(\w+): \w+`).FindAllStringSubmatch(regexp.MustCompile(`parse-kv message as \(([^)]*)\)`).FindStringSubmatch(queries[0])[1], -1)
	for _, key := range keys {
		if !strings.Contains(line, " "+key[1]+"=") {
			t.Errorf("the query asks for %s, which the line has not: %s", key[1], line)
		}
	}
	if len(keys) != 4 || !strings.Contains(line, "record=C-131") || !strings.Contains(line, "instance=job-1") {
		t.Errorf("the query asks for %q; the line is %s", keys, line)
	}
	source := readText(t, "MyOrchestration/myorchestration.go")
	for _, text := range []string{"MyOrchestration has ended.", "MyOrchestration has started.", `"records"`, `"succeeded"`, `"failed"`, `"duration"`, `"mail"`, `"instance"`} {
		if !strings.Contains(source, text) {
			t.Errorf("MyOrchestration does not log %s, which a query asks for", text)
		}
	}
	var workbook struct {
		Version string
		Items   []struct {
			Type    int
			Content struct{ Query string }
		}
	}
	if err := json.Unmarshal([]byte(readText(t, "infra/workbook.json")), &workbook); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, i := range workbook.Items {
		if i.Type == 3 {
			n++
			if !slices.Contains(queries, i.Content.Query) {
				t.Errorf("docs/operating.md does not have the workbook's query %s", i.Content.Query)
			}
		}
	}
	if n != 5 {
		t.Errorf("the workbook has %d queries", n)
	}
}

// TestAzurePipeline: the pipeline of docs/azure-devops.md is valid YAML, its steps run commands that the app has, and it holds no
// secret.
func TestAzurePipeline(t *testing.T) {
	t.Parallel()
	type step struct {
		Script, Task, Checkout string
		Inputs                 map[string]string
		Env                    map[string]string
	}
	var pipeline struct {
		Variables map[string]string
		Stages    []struct {
			Stage, DependsOn, Condition string
			Jobs                        []struct {
				Job, Deployment, Environment string
				Pool                         struct {
					VMImage string `yaml:"vmImage"`
				}
				Steps    []step
				Strategy struct {
					RunOnce struct{ Deploy struct{ Steps []step } } `yaml:"runOnce"`
				}
			}
		}
	}
	page := readText(t, "docs/azure-devops.md")
	text := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(page)[1]
	if err := yaml.Unmarshal([]byte(text), &pipeline); err != nil {
		t.Fatal(err)
	}
	if len(pipeline.Stages) != 2 || len(pipeline.Stages[0].Jobs) != 1 || len(pipeline.Stages[1].Jobs) != 1 {
		t.Fatalf("%+v", pipeline)
	}
	publish := pipeline.Stages[1].Jobs[0]
	steps := append(pipeline.Stages[0].Jobs[0].Steps, publish.Strategy.RunOnce.Deploy.Steps...)
	if publish.Environment == "" || pipeline.Stages[0].Jobs[0].Pool.VMImage == "" || publish.Pool.VMImage == "" || !strings.Contains(pipeline.Stages[1].Condition, "refs/tags/v") {
		t.Errorf("%+v", pipeline.Stages[1])
	}
	known := []string{"functionAppName", "resourceGroup"} // the page tells the reader to set these
	for name := range pipeline.Variables {
		known = append(known, name)
	}
	var scripts []string
	for _, s := range steps {
		if s.Script == "" && s.Task == "" && s.Checkout == "" {
			t.Errorf("a step does nothing: %+v", s)
		}
		scripts = append(scripts, s.Script, s.Inputs["inlineScript"])
		if s.Task == "GoTool@0" && !strings.Contains(readText(t, "go.mod"), "\ngo "+s.Inputs["version"]) {
			t.Errorf("Go %s is not that of go.mod", s.Inputs["version"])
		}
	}
	for _, m := range regexp.MustCompile(`\$\((\w+)\)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("the variable %s is not set, and the page does not tell to set it", m[1])
		}
	}
	all := strings.Join(scripts, "\n")
	for _, want := range []string{"go vet ./...", "go test ./...", "go run . check", "--dry-run", `publish --app "$APP" --resource-group "$GROUP" --platform "$PLATFORM"`} {
		if !strings.Contains(all, want) {
			t.Errorf("no step runs %s", want)
		}
	}
	env, dir := fakeTools(t, map[string]string{"az": "", "go": fakeBuild})
	for _, m := range regexp.MustCompile(`go run \. (publish .*)`).FindAllStringSubmatch(all, -1) {
		args := strings.Fields(strings.NewReplacer(`"$APP"`, "my-app", `"$GROUP"`, "rg", `"$PLATFORM"`, "linux/amd64", "$(platform)", "linux/amd64", `"$HOST_FILE"`, "host.json").Replace(m[1]))
		if r := run(t, env, "", args...); r.code != 0 {
			t.Errorf("%s: exit code %d, %s%s", m[1], r.code, r.stdout, r.stderr)
		}
	}
	if made := calls(t, dir, "az"); len(made) != 1 {
		t.Errorf("az was called with %q", made)
	}
	if secrets := regexp.MustCompile(`(?i)password|secret|key\b`).FindString(text); secrets != "" {
		t.Errorf("the pipeline has a %s", secrets)
	}
}

// TestLinks: the links in the pages of docs and in the README lead to files that exist.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md")) {
		rel, err := filepath.Rel(root, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(readText(t, rel), -1) {
			if matches, err := filepath.Glob(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil || len(matches) != 1 {
				t.Errorf("%s links to %s, which is not there", rel, m[1])
			}
		}
	}
}
