package tests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/durablefunctions/internal/testkit"
)

// A disk is full in two ways here: a small tmpfs is full, in a mount namespace of the command (where that is allowed), or a file
// may not grow (everywhere).

// disk makes a directory small for one run of a command, and large for the next.
type disk struct {
	name   string
	shrink string // shell commands; $D is the directory, $K its size in KiB
	grow   string
	prefix []string // the command that runs the shell
}

func disks(t *testing.T) []disk {
	t.Helper()
	list := []disk{{name: "file size limit", shrink: `ulimit -S -f $((K * 2))`, grow: `ulimit -S -f unlimited`}}
	for _, flags := range []string{"-m", "-Urm"} { // as root, and as a user who may make a namespace
		if exec.Command("unshare", flags, "sh", "-c", "mount -t tmpfs -o size=100k tmpfs /tmp").Run() == nil {
			return append(list, disk{"tmpfs", `mount -t tmpfs -o size=${K}k tmpfs "$D"`, `mount -o remount,size=64m "$D"`, []string{"unshare", flags}})
		}
	}
	return list
}

// shell runs a script in which "$@" is the app with these arguments.
func (d disk) shell(env []string, dir string, kib int, script string, args ...string) *exec.Cmd {
	cmd := command(context.Background(), append(env, "D="+dir, fmt.Sprint("K=", kib)))
	words := append(append(d.prefix, "sh", "-c", script, "sh", executable), args...)
	shell := exec.Command(words[0], words[1:]...)
	cmd.Path, cmd.Args, cmd.Err = shell.Path, shell.Args, shell.Err
	return cmd
}

// If the disk has no room for a run, the run waits a while and then ends with a line that says so. Once there is room, the same
// command finishes it, and nothing is done twice.
func TestTaskHubOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, d := range disks(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			crm, data, out := testkit.StartCRM(t, nil), t.TempDir(), t.TempDir()
			var ids []string
			for i := range 120 {
				ids = append(ids, fmt.Sprintf(`"r-%d"`, i))
			}
			message := testkit.WriteFile(t, filepath.Join(out, "message.json"), `{"RecordIds":[`+strings.Join(ids, ",")+`]}`)
			cmd := d.shell([]string{"CRM_BASE_URL=" + crm.URL, "O=" + out}, data, 400, d.shrink+` || exit 1
				"$@" >"$O/1.out" 2>"$O/1.err"; echo "first: $?"
				`+d.grow+` || exit 1
				"$@" >"$O/2.out" 2>"$O/2.err"; echo "second: $?"`, "process", "--data", data, message)
			started := time.Now()
			codes, err := cmd.CombinedOutput()
			read := func(name string) string {
				text, err := os.ReadFile(filepath.Join(out, name))
				if err != nil {
					t.Error(err)
				}
				return string(text)
			}
			if err != nil || string(codes) != "first: 1\nsecond: 0\n" {
				t.Fatalf("%v, exit codes %s; %s; %s", err, codes, read("1.err"), read("2.err"))
			}
			lines := strings.Split(strings.TrimSpace(read("1.err")), "\n")
			last := lines[len(lines)-1]
			if len(lines) != 2 || !strings.Contains(last, "taskhub.db: ") || !strings.Contains(last, "make room on the disk; the same command again continues") {
				t.Errorf("stderr %q, want one line when it begins and one at the end", lines)
			}
			if elapsed := time.Since(started); elapsed < 10*time.Second {
				t.Errorf("given up after %s", elapsed)
			}
			if !strings.Contains(read("2.out"), "120 in all, 120 succeeded, 0 failed") || !strings.Contains(read("2.err"), "continuing") {
				t.Errorf("with room: %s %s", read("2.out"), read("2.err"))
			}
			if effects := crm.Effects(); effects != 120 {
				t.Errorf("%d records were processed in one job, want 120: the second run made another job of it", effects)
			}
		})
	}
}

// If the record store's disk is full, the activity fails with a line that says so and is tried again. The handler continues.
func TestRecordsOnFullDisk(t *testing.T) {
	t.Parallel()
	for _, d := range disks(t) {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := launchHandler(t, d.shell([]string{"FUNCTIONS_APP_ROOT_PATH=" + root, "CRM_DATABASE=" + filepath.Join(dir, "crm.db")},
				dir, 48, d.shrink+` && exec "$@"`))
			for _, id := range []string{"C-001", "C-002"} {
				r := h.Post(t, "ProcessActivity", `{"Data":{"input":`+testkit.Twice(`{"RecordId":"`+id+`","JobId":"j"}`)+`},"Metadata":{}}`)
				if r.Status != 500 || !strings.Contains(r.Phrase, "make room on the disk") {
					t.Errorf("%s: %s", id, r)
				}
			}
		})
	}
}

// installApp copies the binary and its files to a directory that is read-only.
func installApp(t *testing.T) string {
	t.Helper()
	app := openTempDir(t)
	copyRoot(t, app)
	for from, to := range map[string]string{filepath.Join(root, "samples", "ids.json"): "ids.json", executable: "app"} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(app, to), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	chmodAll(t, app, 0o555)
	t.Cleanup(func() { _ = os.Chmod(app, 0o755) })
	return app
}

// runInstalled runs an installed app as a user who must obey file modes. Root need not.
func runInstalled(t *testing.T, app string, env []string, args ...string) result {
	t.Helper()
	const nobody = 65534
	cmd := command(t.Context(), env, args...)
	cmd.Path, cmd.Dir = filepath.Join(app, "app"), app
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// On a read-only app root and without a home directory the commands work, or say in one line what to set.
func TestReadOnlyRootWithoutHome(t *testing.T) {
	t.Parallel()
	app := installApp(t)
	before := tree(t, app)
	data := openTempDir(t)
	chmodAll(t, data, 0o777)
	for name, c := range map[string]struct {
		env  []string
		args []string
	}{
		"temporary directory": {[]string{"TMPDIR=" + data}, nil},
		"setting":             {[]string{"TMPDIR=" + app, "APP_DATA_DIR=" + filepath.Join(data, "a")}, nil},
		"flag":                {[]string{"TMPDIR=" + app}, []string{"--data", filepath.Join(data, "b")}},
		"nowhere":             {[]string{"TMPDIR=" + app}, nil},
	} {
		r := runInstalled(t, app, append([]string{"HOME=", "XDG_STATE_HOME="}, c.env...), append(append([]string{"process"}, c.args...), "ids.json")...)
		if name == "nowhere" {
			if r.code != 2 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "APP_DATA_DIR") {
				t.Errorf("%s: %+v, want one line that names APP_DATA_DIR", name, r)
			}
		} else if !strings.Contains(r.stdout, "3 in all, 2 succeeded, 1 failed") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if after := tree(t, app); after != before {
		t.Errorf("the app root was\n%s\nand is\n%s", before, after)
	}
}

// Files that are read-only.
func TestReadOnlyFiles(t *testing.T) {
	t.Parallel()
	app := installApp(t)
	for name, c := range map[string]struct {
		readOnly string // a file in the data directory
		code     int
		want     string
	}{
		"records":        {"crm.db", 0, "make the file and its directory writable"},
		"task hub":       {"taskhub.db", 2, "taskhub.db: attempt to write a readonly database (8): make it writable"},
		"data directory": {".", 2, "cannot be written"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := openTempDir(t)
			if r := run(t, nil, "", "process", "--data", data, "samples/october.json"); r.code != 0 {
				t.Fatalf("%+v", r)
			}
			chmodAll(t, data, 0o777)
			if c.readOnly == "." {
				_ = os.Remove(filepath.Join(data, "lock"))
			}
			if err := os.Chmod(filepath.Join(data, c.readOnly), 0o555); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(data, 0o755) })
			r := runInstalled(t, app, nil, "process", "--data", data, "ids.json")
			if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
				t.Errorf("%+v; want %d and %q", r, c.code, c.want)
			}
			if c.code == 2 && strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("more than one line: %s", r.stderr)
			}
		})
	}
}

// openTempDir returns a temporary directory that other users can reach.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func chmodAll(t *testing.T, dir string, mode os.FileMode) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}
