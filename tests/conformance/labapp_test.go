package conformance

import (
	"os/exec"
	"strings"
	"testing"
)

// TestStandsAlone checks that an app on package handler does not get a database or a mail client with it.
func TestStandsAlone(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "./labapp").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("go list names only %d packages", len(deps))
	}
	for _, dep := range deps {
		for _, unwanted := range []string{"sqlite", "sendgrid", "handler/local"} {
			if strings.Contains(dep, unwanted) {
				t.Errorf("the lab app depends on %s", dep)
			}
		}
	}
}
