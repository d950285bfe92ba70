package scaffold

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// inDir runs a program in a directory, without a network, and returns what it prints.
func inDir(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestNewApp: a new app passes vet, its tests and check, and runs. So does every function that is added to it.
func TestNewApp(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shop")
	files, err := New(App{Dir: dir, Module: "example.org/my-shop", With: Optional})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host.json", "local.settings.json", "local.settings.example.json", ".gitignore", ".funcignore", "README.md", "go.mod", "main_test.go", "Process/process_test.go"} {
		if !slices.Contains(files, want) {
			t.Errorf("no %s in %s", want, files)
		}
	}
	if out := inDir(t, dir, "gofmt", "-l", "."); out != "" {
		t.Errorf("not formatted: %s", out)
	}
	main, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(main)
	for _, trigger := range Triggers() {
		added, err := AddFunction(dir, "My-"+trigger, trigger)
		if err != nil {
			t.Fatal(err)
		}
		text = strings.Replace(text, "\n)\n", "\n\t"+added.Import+"\n)\n", 1)
		text = strings.Replace(text, "\treturn app,", "\t"+added.Register+"\n\treturn app,", 1)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	inDir(t, dir, "go", "vet", "./...")
	inDir(t, dir, "go", "test", "./...")
	inDir(t, dir, "go", "build", "-o", "app", ".")
	if out := inDir(t, dir, "./app", "check", "--strict"); !strings.Contains(out, "errors: 0, warnings: 0") {
		t.Errorf("check: %s", out)
	}
	out := inDir(t, dir, "./app", "deliver", "--function", "OnMessage", "--data", t.TempDir(), "--json", "sample.json")
	if !strings.Contains(out, `"runtimeStatus":"Completed"`) || !strings.Contains(out, `"Done":3`) {
		t.Errorf("deliver: %s", out)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine.txt"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]App{
		"not empty":  {Dir: full, Module: "example.org/x"},
		"no module":  {Dir: filepath.Join(full, "a"), Module: ""},
		"bad module": {Dir: filepath.Join(full, "b"), Module: "no good/path"},
		"no trigger": {Dir: filepath.Join(full, "c"), Module: "example.org/x", With: []string{"fax"}},
	} {
		if files, err := New(a); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", name, files, err)
		}
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
		t.Errorf("it left %v, %v", entries, err)
	}
	dir := filepath.Join(t.TempDir(), "shop")
	if _, err := New(App{Dir: dir, Module: "example.org/shop"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"work", "activity"}, {"1st", "activity"}, {"main.go", "activity"}, {"Fax", "fax"}, {"../up", "activity"}, {"host", "activity"}} {
		if added, err := AddFunction(dir, c[0], c[1]); err == nil {
			t.Errorf("%v: %+v", c, added)
		}
	}
	if _, err := AddFunction(full, "Work", "activity"); err == nil {
		t.Error("a function in no app")
	}
}

func TestPackageName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"OnMessage": "onmessage", "My-Fn_2": "myfn2", "Select": "selectfunction", "IO": "iofunction"} {
		if got := packageName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := hubName(strings.Repeat("a-", 60)); len(got) != 45 || strings.Contains(got, "-") {
		t.Errorf("hub %s", got)
	}
}
