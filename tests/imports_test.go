package tests

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "example.com/durablefunctions/"

// TestImports checks which packages may import which: the task hub knows nothing of the host, funchost nothing of the storage,
// the commands nothing of the functions, and a lower package nothing of a higher one. It does not follow imports of other
// modules, because durabletask-go imports net/http through gRPC.
func TestImports(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.ImportPath}}:{{range .Imports}} {{.}}{{end}}", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		name, list, _ := strings.Cut(strings.TrimSpace(line), ":")
		imports[strings.TrimPrefix(name, module)] = strings.Fields(strings.ReplaceAll(list, module, "./"))
	}
	functions := []string{"./MyClientFunction", "./MyOrchestration", "./ProcessActivity"}
	for pkg, forbidden := range map[string][]string{
		"handler/local/internal/taskhub":  {"net/http", "./handler", "./handler/durable", "./handler/local", "./handler/internal/wire", "./handler/internal/config", "./handler/internal/newtonsoft", "./handler/internal/dotnet", "./handler/local/internal/funchost"},
		"handler/local/internal/funchost": {"database/sql", "modernc.org/sqlite", "./handler/local/internal/taskhub", "./handler/local", "./handler"},
		"handler/local/internal/manage":   {"./handler/local", "./handler"},
		"handler/local/internal/output":   {"./handler/local", "./handler"},
		"handler/local/internal/invoke":   {"./handler/local", "./handler", "./handler/local/internal/engine", "./handler/local/internal/inbox"},
		"handler/local/internal/engine":   {"./handler/local", "./handler", "./handler/local/internal/inbox", "./handler/local/internal/front"},
		"handler/local/internal/inbox":    {"./handler/local", "./handler", "./handler/local/internal/funchost", "./handler/local/internal/invoke", "net/http"},
		"handler/local/internal/front":    {"./handler/local", "./handler", "./handler/local/internal/engine"},
		"handler/local":                   append([]string{"./handler", "./handler/cli"}, functions...),
		"handler/cli":                     append([]string{"./internal/commands", "./internal/crm"}, functions...),
		"handler":                         append([]string{"./handler/local", "./handler/cli", "./internal/crm"}, functions...),
		"handler/durable":                 append([]string{"./handler", "./handler/local"}, functions...),
		"handler/internal/replay":         {"./handler", "./handler/durable", "net/http"},
		"handler/internal/wire":           {"./handler", "./handler/durable", "./handler/internal/replay", "net/http"},
		"handler/internal/route":          {"./handler", "./handler/internal/config", "net/http"},
		"handler/internal/telemetry":      {"./handler", "./handler/durable", "./handler/internal/wire"},
		"handler/internal/entity":         {"./handler", "./handler/durable", "net/http"},
		"handler/internal/dashboard":      {"./handler", "./handler/local", "database/sql"},
		"handler/local/internal/trigger":  {"./handler", "./handler/local", "./handler/local/internal/taskhub"},
		"internal/commands":               {"./MyClientFunction"},
		"internal/text":                   append([]string{"./handler", "./internal/crm", "./internal/commands"}, functions...),
		"internal/crm":                    append([]string{"./handler", "./handler/durable", "./handler/local"}, functions...),
	} {
		if len(imports[pkg]) == 0 {
			t.Errorf("there is no package %s", pkg)
		}
		// Follow all packages of this module that it imports, directly or through others, and check what these import.
		seen, next := map[string]bool{}, []string{pkg}
		for len(next) > 0 {
			for _, i := range imports[next[0]] {
				if inner := strings.TrimPrefix(i, "./"); inner != i && !seen[i] {
					next = append(next, inner)
				}
				seen[i] = true
				if slices.Contains(forbidden, i) {
					t.Errorf("%s must not come to import %s; %s does", pkg, strings.TrimPrefix(i, "./"), next[0])
				}
			}
			next = next[1:]
		}
	}
}
