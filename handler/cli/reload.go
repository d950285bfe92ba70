package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"example.com/durablefunctions/handler/internal/config"
)

// With start --watch there are two processes: the supervisor, which holds the port, watches the files and builds; and its
// child, start itself, from the last build that succeeded. For a reload the old child is stopped as if by a signal, and the
// new child continues with what is in the data directory.

// The supervisor closes its child's stdin to stop it. If a new build will take over, it writes this word first.
const reloadWord = "reload"

// followSupervisor ends e.Context at the end of stdin, if there is a supervisor; this also happens when the supervisor is
// killed. The result says whether another build takes over.
func (c *startCommand) followSupervisor(e *Environment) *atomic.Bool {
	var reload atomic.Bool
	if c.Supervised {
		ctx, stop := context.WithCancel(e.Context)
		e.Context = ctx
		go func() {
			text, _ := io.ReadAll(io.LimitReader(os.Stdin, 100))
			reload.Store(string(text) == reloadWord)
			stop()
		}()
	}
	return &reload
}

// supervisor builds the app, runs it, and does both again when a file has changed.
type supervisor struct {
	e        *Environment
	listener net.Listener
	args     []string // the arguments of start
	command  []string // the command that builds the app
	binary   string   // the file that the command writes
	temp     string   // holds copies of the binary: some systems do not let a running one be overwritten
	data     string   // data directory
	embedded []string // files embedded in the binary that are not Go files

	builds  int
	running [sha256.Size]byte // the version that runs; see version
	child   *child            // nil before the first build that succeeds
}

// child is a start process that runs or has ended.
type child struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan struct{}
}

// watch is start --watch. It returns after a signal, once its child has stopped.
func (c *startCommand) watch(e *Environment, data string, listener net.Listener) error {
	temp, err := os.MkdirTemp("", "start-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	s := &supervisor{e: e, listener: listener, temp: temp, data: data, args: []string{"start", "--supervised", "--data", data, "--port", port}}
	if s.command, s.binary, err = buildCommand(c.Build, temp); err != nil {
		return err
	}
	e.catchSignals()
	if err := s.run(c.Open); err != nil {
		return exit{ExitFailed, err}
	}
	if s.child != nil && s.child.cmd.ProcessState.ExitCode() != 0 {
		return exit{ExitFailed, nil} // the child has printed the reason
	}
	return nil
}

// buildCommand returns the build command and the binary that it writes: the one of its flag -o, otherwise the one that
// host.json names.
func buildCommand(command []string, temp string) (_ []string, binary string, err error) {
	if len(command) == 0 {
		binary = filepath.Join(temp, "built"+exeSuffix())
		return []string{"go", "build", "-o", binary, "."}, binary, nil
	}
	for n, word := range command {
		value, found := strings.CutPrefix(word, "-o=")
		if word == "-o" && n+1 < len(command) {
			value, found = command[n+1], true
		}
		if found {
			return command, value, nil
		}
	}
	app, err := config.Load(".", os.Environ())
	if err != nil {
		return nil, "", err
	}
	return command, app.Host.Executable, nil
}

func exeSuffix() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}

// run builds and reloads until a signal comes.
func (s *supervisor) run(open bool) error {
	ctx := s.e.Context
	for {
		files := s.files()
		if s.build(ctx) {
			if err := s.reload(open, files); err != nil {
				return err
			}
			open = false
		}
		if !s.awaitChange(ctx, files) {
			s.stop("")
			return nil
		}
	}
}

// build runs the build command. If it fails, the app keeps running unchanged.
func (s *supervisor) build(ctx context.Context) (ok bool) {
	cmd := exec.CommandContext(ctx, s.command[0], s.command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.e.environ, s.e.Stderr, s.e.Stderr
	fmt.Fprintf(s.e.Stderr, "building: %s\n", OneLine(strings.Join(s.command, " ")))
	err := cmd.Run()
	switch {
	case err == nil:
		s.embedded = embeddedFiles(ctx, s.e.environ)
		return true
	case ctx.Err() != nil:
	case s.child == nil:
		fmt.Fprintf(s.e.Stderr, "the build failed (%v): waiting for a change\n", err)
	default:
		fmt.Fprintf(s.e.Stderr, "the build failed (%v): the app goes on as it was\n", err)
	}
	return false
}

// embeddedFiles asks the go command which files of the working directory are embedded in the binary. If it cannot tell, only
// changes of Go files are noticed.
func embeddedFiles(ctx context.Context, environ []string) []string {
	list := exec.CommandContext(ctx, "go", "list", "-e", "-f", `{{$dir := .Dir}}{{range .EmbedFiles}}{{$dir}}{{"\t"}}{{.}}{{"\n"}}{{end}}`, "./...")
	list.Env = environ
	out, _ := list.Output()
	var files []string
	for line := range strings.Lines(string(out)) {
		if dir, name, found := strings.Cut(strings.TrimSpace(line), "\t"); found {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files
}

// reload stops the running child and starts the new build, unless the two are the same.
func (s *supervisor) reload(open bool, files map[string]stamp) error {
	s.builds++
	path := filepath.Join(s.temp, fmt.Sprintf("%d%s", s.builds, exeSuffix()))
	version, err := s.keep(path, files)
	if err != nil {
		return fmt.Errorf("the build made no binary: %w", err)
	}
	if s.child != nil && version == s.running {
		fmt.Fprintln(s.e.Stderr, "the binary and its configuration are the same: nothing to reload")
		return os.Remove(path)
	}
	s.stop(reloadWord)
	s.running = version
	args := s.args
	if open {
		args = append(slices.Clone(args), "--open")
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.e.environ, s.e.Stdout, s.e.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	done, err := bequeath(cmd, s.listener)
	if err != nil {
		return err
	}
	defer done()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.child = &child{cmd: cmd, input: input, ended: make(chan struct{})}
	go func(c *child) {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}(s.child)
	return nil
}

// keep copies the binary, and returns the version of the binary together with the app's configuration.
func (s *supervisor) keep(path string, files map[string]stamp) (version [sha256.Size]byte, err error) {
	built, err := os.Open(s.binary)
	if err != nil {
		return version, err
	}
	defer built.Close()
	kept, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return version, err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(kept, hash), built)
	if err = errors.Join(err, kept.Close()); err != nil {
		return version, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) == ".json" {
			text, _ := os.ReadFile(name)
			fmt.Fprintf(hash, "%s %d\n%s", name, len(text), text)
		}
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// patience is how long the supervisor waits for a child to stop. The child's own limit is shorter.
const patience = 4 * stopTimeout

// stop tells the child to stop, with a word that says why, and waits for its end.
func (s *supervisor) stop(word string) {
	if s.child == nil {
		return
	}
	_, _ = io.WriteString(s.child.input, word)
	_ = s.child.input.Close()
	timer := time.AfterFunc(patience, func() { _ = s.child.cmd.Process.Kill() })
	<-s.child.ended
	timer.Stop()
	_ = os.Remove(s.child.cmd.Path)
}

// stamp changes when a file does.
type stamp struct {
	modified time.Time
	size     int64
}

// watchEvery is the time between two looks at the files. Notifications of the system would need a handle for each directory,
// and miss changes over a network or into a container.
const watchEvery = 300 * time.Millisecond

// awaitChange waits until files have changed and then stayed the same for one interval, because an editor or a checkout
// writes several files. It returns false after a signal.
func (s *supervisor) awaitChange(ctx context.Context, files map[string]stamp) bool {
	var ended <-chan struct{}
	if s.child != nil {
		ended = s.child.ended
	}
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for last := files; ; {
		select {
		case <-ctx.Done():
			return false
		case <-ended:
			ended = nil
			if ctx.Err() == nil {
				fmt.Fprintf(s.e.Stderr, "the app has ended (%v): waiting for a change\n", s.child.cmd.ProcessState)
				s.running = [sha256.Size]byte{} // so that even an identical build is started again
			}
			continue
		case <-ticker.C:
		}
		now := s.files()
		changed := changes(files, now)
		if len(changed) > 0 && len(changes(last, now)) == 0 {
			fmt.Fprintf(s.e.Stderr, "changed: %s\n", OneLine(strings.Join(changed, ", ")))
			return true
		}
		last = now
	}
}

// changes returns the names of the files that differ.
func changes(before, now map[string]stamp) (names []string) {
	for name := range now {
		if before[name] != now[name] {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, there := now[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// watched are the files that count in any directory, in addition to the Go files.
var watched = []string{"go.mod", "go.sum", "go.work", "host.json", "function.json", "local.settings.json"}

// files finds the files that the app is built from, and those that it reads at its start. Test files are left out: the binary
// does not contain them.
func (s *supervisor) files() map[string]stamp {
	files := map[string]stamp{}
	add := func(name string, info fs.FileInfo, err error) {
		if err == nil {
			files[name] = stamp{info.ModTime(), info.Size()}
		}
	}
	_ = filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that cannot be read does not count
		}
		name := entry.Name()
		switch isHidden := name != "." && strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_"); {
		case entry.IsDir() && (isHidden || name == "node_modules" || name == "testdata" || isSame(path, s.data)):
			return filepath.SkipDir
		case entry.IsDir() || isHidden:
		case slices.Contains(watched, name) || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			info, err := entry.Info()
			add(path, info, err)
		}
		return nil
	})
	for _, path := range s.embedded {
		info, err := os.Stat(path)
		add(relative(path), info, err)
	}
	return files
}

func isSame(path, absolute string) bool {
	path, err := filepath.Abs(path)
	return err == nil && path == absolute
}
