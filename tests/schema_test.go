package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tailscale/hujson"
)

// schema compiles one of the schemas in testdata/schemas.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "schemas", name+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate checks a text. It may hold comments, because the host allows them.
func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	plain, err := hujson.Standardize(text)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(plain)))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// TestSchemas: every host.json and function.json of this repository, and of a new app, is valid. The schemas have only the
// properties of Microsoft's reference.
func TestSchemas(t *testing.T) {
	t.Parallel()
	app := filepath.Join(t.TempDir(), "shop")
	if r := run(t, goEnvironment(t), "", "new", app, "--module", "example.org/shop", "--with", "http,queue,timer,entity"); r.code != 0 {
		t.Fatalf("new: exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	host, function := schema(t, "host"), schema(t, "function")
	found := map[string]int{}
	for _, dir := range []string{root, app} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				// The lab app has no extension bundle on purpose.
				if err == nil && (entry.Name() == ".git" || entry.Name() == "testdata" || entry.Name() == "labapp") {
					return filepath.SkipDir
				}
				return err
			}
			s := host
			switch {
			case entry.Name() == "function.json":
				s = function
			case entry.Name() != "host.json" && filepath.Base(filepath.Dir(path)) != "hosts":
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			found[entry.Name()]++
			if err := validate(t, s, text); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found["host.json"] < 3 || found["function.json"] < 3+10+6 || found["dts.json"] != 1 || found["mssql.json"] != 1 {
		t.Errorf("found %v", found)
	}
}

// TestSchemasRefuse: the schemas find mistakes.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, old, text string }{
		"property":        {"host.json", `"functionTimeout"`, `"functionTimeOut"`},
		"version":         {"host.json", `"2.0"`, `"3.0"`},
		"bundle":          {"host.json", "[4.*, 5.0.0)", "[3.*, 4.0.0)"},
		"no bundle":       {"host.json", `"extensionBundle"`, `"extensionbundles"`},
		"durable task":    {"host.json", `"maxConcurrentActivityFunctions"`, `"maxConcurrentActivities"`},
		"storage":         {"host.json", `"maxQueuePollingInterval": "00:00:02"`, `"maxQueuePollingInterval": "2s"`},
		"partitions":      {"host.json", `"storageProvider": {`, `"storageProvider": {"partitionCount": 17,`},
		"DTS":             {"infra/hosts/dts.json", `"connectionStringName"`, `"connectionName"`},
		"MSSQL":           {"infra/hosts/mssql.json", `"taskEventLockTimeout"`, `"taskLockTimeout"`},
		"service bus":     {"host.json", `"maxConcurrentCalls"`, `"maxConcurrentCall"`},
		"level":           {"host.json", `"Warning"`, `"Warn"`},
		"binding":         {"MyClientFunction/function.json", `"queueName"`, `"queue"`},
		"binding's name":  {"MyClientFunction/function.json", `"starter"`, `"durable-starter"`},
		"type":            {"ProcessActivity/function.json", `"activityTrigger"`, `"activitytriggers"`},
		"direction":       {"MyOrchestration/function.json", `"direction": "out"`, `"direction": "in"`},
		"second trigger":  {"MyClientFunction/function.json", `"durableClient"`, `"activityTrigger"`},
		"retry":           {"ProcessActivity/function.json", `"maxRetryCount"`, `"retryCount"`},
		"cardinality":     {"examples/everything/OnTelemetry/function.json", `"one"`, `"many"`},
		"method":          {"examples/everything/StartOrder/function.json", `"post"`, `"fetch"`},
		"timer's program": {"examples/everything/Nightly/function.json", `"schedule"`, `"cron"`},
	} {
		kind := "host"
		if strings.HasSuffix(c.file, "function.json") {
			kind = "function"
		}
		text := readText(t, c.file)
		changed := strings.Replace(text, c.old, c.text, 1)
		if changed == text {
			t.Errorf("%s: %s has no %s", name, c.file, c.old)
		}
		if err := validate(t, schema(t, kind), []byte(changed)); err == nil {
			t.Errorf("%s: %s in place of %s is taken", name, c.text, c.old)
		}
	}
}
