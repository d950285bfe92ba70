package tests

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// Nothing is written below the app root, with or without a home directory, because the host restarts when a file appears there.
func TestNothingIsWrittenBelowTheAppRoot(t *testing.T) {
	t.Parallel()
	for _, home := range []string{t.TempDir(), ""} {
		dir := t.TempDir()
		copyRoot(t, dir)
		s := testkit.StartSidecar(t)
		h := startHandler(t, "FUNCTIONS_APP_ROOT_PATH="+dir, "CRM_DATABASE=", "HOME="+home, "XDG_STATE_HOME=", "TMPDIR="+t.TempDir())
		before := tree(t, dir)
		h.Post(t, clientFunction, message(s.Address, `{"Batch":"2026-10"}`, ""))
		h.Post(t, "ProcessActivity", testkit.ActivityBody(`{"RecordId":"C-001","JobId":"j"}`))
		if after := tree(t, dir); after != before {
			t.Errorf("home %q: the app root was\n%s\nand is\n%s", home, before, after)
		}
	}
}

// tree lists the files below a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, "\n")
}

// The handler finds under the Functions host what a command has imported from the same app root.
func TestImportFeedsTheHost(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	copyRoot(t, dir)
	env := []string{"HOME=" + home, "XDG_STATE_HOME=", "LOCALAPPDATA=" + home}
	cmd := command(t.Context(), env, "import", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader("RecordId,Batch,Name,Email\nX-1,new,Somebody,somebody@example.com\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h := startHandler(t, append(env, "FUNCTIONS_APP_ROOT_PATH="+dir, "CRM_DATABASE=")...)
	if a := h.Post(t, "ProcessActivity", testkit.ActivityBody(`{"RecordId":"X-1","JobId":"j"}`)); !strings.Contains(a.Body, `"Success":true`) {
		t.Errorf("the imported record: %s", a)
	}
}
