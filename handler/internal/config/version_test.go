package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestVersions: what host.json says about an orchestration's version, with the override from the environment.
func TestVersions(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	host := `{"version":"2.0","extensions":{"durableTask":{"defaultVersion":"2.1","versionMatchStrategy":"Strict"}}}`
	if err := os.WriteFile(filepath.Join(root, "host.json"), []byte(host), 0o600); err != nil {
		t.Fatal(err)
	}
	app, err := Load(root, []string{"AzureFunctionsJobHost__extensions__durableTask__versionFailureStrategy=Fail"})
	if err != nil {
		t.Fatal(err)
	}
	if h := app.Host; h.DefaultVersion != "2.1" || h.VersionMatchStrategy != "Strict" || h.VersionFailureStrategy != "Fail" {
		t.Errorf("got %+v", h)
	}
}
