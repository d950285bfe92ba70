package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// shells are scripts that load the completion script of the binary, complete the last word of a command line and print the
// candidates.
var shells = map[string]string{
	"bash": `source <(app completion bash)
[[ $(complete -p app) == *" -F _app_complete "* ]] || exit 1
read -ra COMP_WORDS <<< "$LINE"
[[ $LINE == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_app_complete app "${COMP_WORDS[COMP_CWORD]}" app
printf '%s\n' "${COMPREPLY[@]}"`,
	// Outside its line editor zsh cannot add candidates, so this function prints them instead.
	"zsh": `compdef() { [[ $1 == _app_complete && $2 == app ]] || exit 1 }
_files() { print -l ${words[CURRENT]}*(N) }
_describe() { print -l -- ${(P)3} }
source <(app completion zsh)
words=(${(z)LINE}); [[ $LINE == *" " ]] && words+=("")
CURRENT=$#words
_app_complete`,
	"fish": `app completion fish | source
complete --do-complete "$LINE"`,
	"pwsh": `app completion powershell | Out-String | Invoke-Expression
[System.Management.Automation.CommandCompletion]::CompleteInput($env:LINE, $env:LINE.Length, $null).CompletionMatches | ForEach-Object { $_.CompletionText }`,
}

// TestCompletion: each installed shell completes commands, flags, values of flags, names of functions, ids of instances and names
// of files.
func TestCompletion(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the binary is no app.exe in PATH")
	}
	bin, data := t.TempDir(), t.TempDir()
	if err := os.Symlink(executable, filepath.Join(bin, "app")); err != nil {
		t.Fatal(err)
	}
	s := startLocal(t, data)
	r := run(t, nil, "", "start-new", "MyOrchestration", "--url", s.URL, "--id", "known-instance", "--input", "{}")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for shell, script := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("not installed")
			}
			args := map[string][]string{"bash": {"--norc", "-c"}, "zsh": {"-f", "-c"}, "fish": {"--no-config", "-c"}, "pwsh": {"-NoProfile", "-Command"}}[shell]
			for line, want := range map[string][]string{
				"app inst":                            {"instances"},
				"app instances ":                      {"list", "show", "purge"},
				"app instances list --sta":            {"--status"},
				"app instances list --status Fai":     {"Failed"},
				"app start-new ":                      {"MyOrchestration"},
				"app deliver --function My":           {"MyClientFunction"},
				"app instances show --data DATA kno":  {"known-instance"},
				"app process --strict samples/octobe": {"samples/october.json"},
				"app completion power":                {"powershell"},
			} {
				line = strings.ReplaceAll(line, "DATA", data)
				cmd := exec.CommandContext(t.Context(), path, append(args, script)...)
				cmd.Dir = root
				cmd.Env = append(command(context.Background(), nil).Env, "LINE="+line, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
				out, err := cmd.CombinedOutput()
				var got []string
				for line := range strings.Lines(string(out)) {
					word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
					if shell == "zsh" {
						word, _, _ = strings.Cut(word, ":")
					}
					got = append(got, word)
				}
				for _, w := range want {
					if !slices.Contains(got, w) {
						t.Errorf("%q: got %q (%v), want %s among them", line, out, err, w)
					}
				}
				if slices.Contains(got, "complete") {
					t.Errorf("%q: the shells' own command is offered", line)
				}
			}
		})
	}
}

// Text with a meaning for the shell is never offered as a candidate.
func TestCompletionOfNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	testkit.WriteFile(t, filepath.Join(root, "host.json"), `{"version":"2.0"}`)
	testkit.WriteFile(t, filepath.Join(root, "$(id)", "function.json"), `{"bindings":[{"type":"orchestrationTrigger","direction":"in","name":"context"}]}`)
	for _, words := range [][]string{{"start-new", ""}, {"nonsense", "x", ""}, {"instances", "show", "--data", root, ""}, {"start", "--watch", "--", "go", ""}} {
		cmd := command(t.Context(), nil, append([]string{"complete", "--"}, words...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
			t.Errorf("%q: %q, %v; want nothing", words, out, err)
		}
	}
}
