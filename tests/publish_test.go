package tests

import (
	"archive/zip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// TestPublishedZip: the zip of publish holds all files that the host needs. Unpacked into an empty folder it starts and works.
func TestPublishedZip(t *testing.T) {
	t.Parallel()
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if !slices.Contains([]string{"linux/amd64", "linux/arm64", "windows/amd64"}, platform) {
		t.Skip("Azure has no " + platform)
	}
	file := filepath.Join(t.TempDir(), "app.zip")
	r := run(t, goEnvironment(t), "", "publish", "--app", "my-app", "--resource-group", "my-group", "--platform", platform, "--dry-run", "--zip", file)
	if r.code != 0 || !strings.Contains(r.stdout, "az functionapp deployment source config-zip --resource-group my-group --name my-app --src "+file) {
		t.Fatalf("exit code %d, %s%s", r.code, r.stdout, r.stderr)
	}
	dir := t.TempDir()
	names := unzip(t, file, dir)
	binary := "app"
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	want := []string{"MyClientFunction/function.json", "MyOrchestration/function.json", "ProcessActivity/function.json", binary, "host.json"}
	if !slices.Equal(names, want) {
		t.Errorf("the zip has %q, want %q", names, want)
	}
	for _, name := range names {
		if !strings.Contains(r.stdout, name) {
			t.Errorf("the list does not name %s: %s", name, r.stdout)
		}
	}
	cmd := exec.CommandContext(context.Background(), filepath.Join(dir, binary))
	cmd.Dir = dir
	cmd.Env = append(command(t.Context(), nil).Env, "FUNCTIONS_APP_ROOT_PATH="+dir, "CRM_DATABASE="+filepath.Join(t.TempDir(), "crm.db"))
	h := launchHandler(t, cmd)
	if a := h.Post(t, "ProcessActivity", testkit.ActivityBody(`{"RecordId":"C-001","JobId":"j"}`)); a.Status != 200 || string(a.ReturnValue) != `{"Success":true}` {
		t.Errorf("answer %s", a)
	}
}

// TestPublishRefuses: publish builds and uploads nothing that would fail in Azure.
func TestPublishRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args, env []string
		want      string
	}{
		"check":      {nil, []string{"AzureFunctionsJobHost__extensions__durableTask__storageProvider__type=postgres"}, "check found 1 errors"},
		"no app":     {[]string{"--app", ""}, nil, "app"},
		"platform":   {[]string{"--platform", "plan9/amd64"}, nil, "platform"},
		"outside":    {[]string{"--include", "../secrets"}, nil, "--include ../secrets"},
		"not there":  {[]string{"--include", "nothing"}, nil, "--include nothing"},
		"Windows":    {[]string{"--platform", "windows/amd64"}, nil, "--resource-group"},
		"no host":    {[]string{"--host", "nothing.json"}, nil, "nothing.json"},
		"executable": {nil, []string{"AzureFunctionsJobHost__customHandler__description__defaultExecutablePath=/bin/true"}, "not below the app root"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"publish", "--app", "my-app", "--dry-run"}, c.args...)
			if name == "no app" {
				args = []string{"publish", "--dry-run"}
			}
			if r := run(t, append(goEnvironment(t), c.env...), "", args...); r.code != 2 || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit code %d, %s; want 2 and %q", r.code, r.stderr, c.want)
			}
		})
	}
}

// goEnvironment returns the variables that the go command needs in addition to those of command.
func goEnvironment(t *testing.T) []string {
	t.Helper()
	var env []string
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOROOT", "LocalAppData"} {
		if name == "LocalAppData" {
			if v := os.Getenv(name); v != "" {
				env = append(env, name+"="+v)
			}
			continue
		}
		out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	return env
}

// unzip unpacks a zip with the modes of its files, and returns their names.
func unzip(t *testing.T, file, dir string) []string {
	t.Helper()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var names []string
	for _, f := range z.File {
		from, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		target := testkit.WriteFile(t, filepath.Join(dir, filepath.FromSlash(f.Name)), string(text))
		if err := os.Chmod(target, f.Mode()); err != nil {
			t.Fatal(err)
		}
		names = append(names, f.Name)
	}
	return names
}
