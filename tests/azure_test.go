package tests

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"example.com/durablefunctions/internal/testkit"
)

// fakeTools puts shell scripts with these names at the front of the PATH, and returns the environment for it. Each script writes
// its arguments and its working directory to a file with its name and .log.
func fakeTools(t *testing.T, scripts map[string]string) (env []string, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the tools are shell scripts")
	}
	dir = t.TempDir()
	for name, script := range scripts {
		path := testkit.WriteFile(t, filepath.Join(dir, name), "#!/bin/sh\nprintf '%s|' \"$PWD\" \"$@\" >>"+filepath.Join(dir, name+".log")+"; echo >>"+filepath.Join(dir, name+".log")+"\n"+script)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH")}, dir
}

// calls returns the argument lists with which a fake tool was called, each joined by "|".
func calls(t *testing.T, dir, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// refusal is what az prints before the roles of an app's new identity take effect.
const refusal = `echo "ERROR: Deployment failed. InaccessibleStorageException: Failed to access storage account for deployment: BlobUploadFailedException: Failed to upload blob to storage account: Response status code does not indicate success: 403 (This request is not authorized to perform this operation.)" >&2; exit 1`

// fakeBuild replaces go build and takes no time; TestPublishedZip runs a real build.
const fakeBuild = `while [ "$1" != -o ]; do shift; done; echo binary >"$2"`

// TestPublish: publish calls az or func, and tries again as long as the app's storage refuses the app's new identity.
func TestPublish(t *testing.T) {
	t.Parallel()
	az, funcTool := []string{"--resource-group", "rg"}, []string{}
	for name, c := range map[string]struct {
		args             []string
		tool, script     string
		code, calls      int
		stdout, stderr   string
		callHas, callNot string
	}{
		"az":             {az, "az", "", 0, 1, "my-app is published: 5 files.", "", "functionapp|deployment|source|config-zip|--resource-group|rg|--name|my-app|--src|", "slot"},
		"az, slot":       {append([]string{"--slot", "next"}, az...), "az", "", 0, 1, "is published", "", "--slot|next|", ""},
		"func":           {funcTool, "func", "test -f host.json && test -f app && ! test -e main.go", 0, 1, "is published", "", "azure|functionapp|publish|my-app|--custom|--no-build|", ""},
		"role comes":     {az, "az", `test $(wc -l <"$0.log") -ge 4 || { ` + refusal + `; }`, 0, 4, "is published", "Trying again in 500ms", "config-zip", ""},
		"role of func":   {funcTool, "func", `test $(wc -l <"$0.log") -ge 2 || { echo "Failed to upload because Azure Storage responded with Forbidden : 403"; exit 1; }`, 0, 2, "is published", "Trying again", "publish|my-app", ""},
		"role never":     {append([]string{"--role-wait", "300ms"}, az...), "az", refusal, 2, -1, "", "give the identity the role Storage Blob Data Owner", "config-zip", ""},
		"no waiting":     {append([]string{"--role-wait", "0"}, az...), "az", refusal, 2, 1, "", "still refuses the app's identity", "config-zip", ""},
		"another reason": {az, "az", `echo "ERROR: (ResourceNotFound) no such app" >&2; exit 3`, 2, 1, "", "az functionapp deployment source failed: exit status 3", "config-zip", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, dir := fakeTools(t, map[string]string{c.tool: c.script, "go": fakeBuild})
			args := []string{"publish", "--app", "my-app"}
			if !strings.Contains(strings.Join(c.args, " "), "--role-wait") {
				args = append(args, "--role-wait", "20s")
			}
			r := run(t, env, "", append(args, c.args...)...)
			made := calls(t, dir, c.tool)
			if r.code != c.code || c.calls >= 0 && len(made) != c.calls || c.calls < 0 && len(made) < 2 {
				t.Fatalf("exit code %d after %d calls, want %d after %d:\n%s%s", r.code, len(made), c.code, c.calls, r.stdout, r.stderr)
			}
			if !strings.Contains(r.stdout, c.stdout) || !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("%s%s\nwant %q and %q", r.stdout, r.stderr, c.stdout, c.stderr)
			}
			for _, call := range made {
				if !strings.Contains(call, c.callHas) || c.callNot != "" && strings.Contains(call, c.callNot) {
					t.Errorf("%s was called with %s, want %s", c.tool, call, c.callHas)
				}
			}
		})
	}
}

// TestPublishWithoutTools: the error says what to install.
func TestPublishWithoutTools(t *testing.T) {
	t.Parallel()
	_, dir := fakeTools(t, map[string]string{"go": fakeBuild})
	if r := run(t, []string{"PATH=" + dir}, "", "publish", "--app", "my-app"); r.code != 2 || !strings.Contains(r.stderr, "func is not installed") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
}

const secretKey = "S3cret-key-of-the-app=="

// azureApp answers like an app in Azure: over TLS, and only to requests with its key. It tells the key to callers who start an
// orchestration.
type azureApp struct {
	*httptest.Server
	env []string // makes a process trust its certificate

	mu       sync.Mutex
	requests []string // the method, URL and headers of each
}

func startAzureApp(t *testing.T) *azureApp {
	t.Helper()
	a := &azureApp{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.requests = append(a.requests, fmt.Sprint(r.Method, " ", r.URL, " ", r.Header))
		a.mu.Unlock()
		if r.Header.Get("X-Functions-Key") != secretKey {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		const path = "/runtime/webhooks/durabletask"
		switch {
		case r.Method == "GET" && strings.TrimSuffix(r.URL.Path, "/") == path+"/instances":
			_, _ = io.WriteString(w, `[{"name":"MyOrchestration","instanceId":"cloud-1","runtimeStatus":"Failed","input":null,"customStatus":null,"output":"it broke","createdTime":"2026-11-26T10:00:00Z","lastUpdatedTime":"2026-11-26T10:00:05Z"}]`)
		case r.Method == "POST" && r.URL.Path == path+"/instances/cloud-1/rewind":
			w.WriteHeader(http.StatusAccepted)
		case r.Method == "POST" && r.URL.Path == path+"/orchestrators/MyOrchestration":
			w.Header().Set("Location", a.URL+path+"/instances/cloud-2?code="+secretKey)
			w.WriteHeader(http.StatusAccepted)
			_, _ = fmt.Fprintf(w, `{"id":"cloud-2","statusQueryGetUri":"%s%s/instances/cloud-2?taskHub=MyTaskHub&connection=Storage&code=%s"}`, a.URL, path, secretKey)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(a.Close)
	certificate := testkit.WriteFile(t, filepath.Join(t.TempDir(), "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})))
	a.env = []string{"SSL_CERT_FILE=" + certificate, "SSL_CERT_DIR=/nowhere"}
	return a
}

// onLinux skips the test on systems where Go reads no certificates from SSL_CERT_FILE.
func onLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("SSL_CERT_FILE counts on Linux only")
	}
}

// azScript returns a script that answers as az does with --output tsv: with a line of text, or with an error on stderr.
func azScript(host, key string) string {
	return `case "$1 $2 $3" in
"functionapp show --name") case "$*" in *" --query defaultHostName || properties.defaultHostName "*) ;; *) exit 9;; esac
  test "$4" = my-app || { echo "ERROR: (ResourceNotFound) The Resource 'Microsoft.Web/sites/$4' under resource group '$6' was not found." >&2; exit 3; }
  echo "` + host + `";;
"functionapp keys list") echo "` + key + `";;
*) echo "ERROR: '$*' is misspelled or not recognized by the system." >&2; exit 2;;
esac
`
}

// TestInstancesOfAnAppInAzure: with --app and --resource-group, az tells the app's address and key. The key goes to the app in a
// header, and nowhere else.
func TestInstancesOfAnAppInAzure(t *testing.T) {
	t.Parallel()
	onLinux(t)
	a := startAzureApp(t)
	host := strings.TrimPrefix(a.URL, "https://")
	for name, c := range map[string]struct {
		args   string
		script string
		code   int
		want   string
	}{
		"list":              {"instances list --app my-app --resource-group rg", azScript(host, secretKey), 0, "cloud-1"},
		"rewind":            {"instances rewind cloud-1 --app my-app --resource-group rg", azScript(host, secretKey), 0, "cloud-1"},
		"start-new":         {"start-new MyOrchestration --input 1 --app my-app --resource-group rg", azScript(host, secretKey), 0, "cloud-2"},
		"not found":         {"instances show nobody --app my-app --resource-group rg", azScript(host, secretKey), 4, "nobody"},
		"another app":       {"instances list --app your-app --resource-group rg", azScript(host, secretKey), 2, "az does not tell about your-app: ERROR: (ResourceNotFound)"},
		"wrong key":         {"instances list --app my-app --resource-group rg", azScript(host, "old"), 2, "refuses the key"},
		"no key yet":        {"instances list --app my-app --resource-group rg", azScript(host, ""), 2, "has it run once?"},
		"no key, older az":  {"instances list --app my-app --resource-group rg", azScript(host, "None"), 2, "has it run once?"},
		"no resource group": {"instances list --app my-app", azScript(host, secretKey), 2, "--app my-app needs --resource-group"},
		"not signed in":     {"instances list --app my-app --resource-group rg", `echo "ERROR: Please run 'az login' to setup account." >&2; exit 1`, 2, "Please run 'az login'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, dir := fakeTools(t, map[string]string{"az": c.script})
			r := run(t, append(env, a.env...), "", strings.Fields(c.args)...)
			if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", r.code, c.code, c.want, r.stdout, r.stderr)
			}
			if strings.Contains(r.stdout+r.stderr, secretKey) {
				t.Errorf("the key is printed:\n%s%s", r.stdout, r.stderr)
			}
			for _, call := range calls(t, dir, "az") {
				if !strings.Contains(call, "|--output|tsv|") || !strings.Contains(call, "|--resource-group|rg|") {
					t.Errorf("az was called with %s", call)
				}
			}
		})
	}
	t.Cleanup(func() { a.keepsKey(t) })
}

// keepsKey checks that the key came in the header for Functions keys, and in no URL and no other header.
func (a *azureApp) keepsKey(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.requests) == 0 {
		t.Error("nobody asked the app")
	}
	for _, r := range a.requests {
		if elsewhere := strings.Replace(r, "X-Functions-Key:["+secretKey+"]", "", 1); strings.Contains(elsewhere, secretKey) {
			t.Errorf("the key went elsewhere: %s", r)
		}
	}
}

// TestDashboardOfAnAppInAzure: the page of a deployed app works, and the key stays in the process that serves the page.
func TestDashboardOfAnAppInAzure(t *testing.T) {
	t.Parallel()
	onLinux(t)
	a := startAzureApp(t)
	for name, given := range map[string]struct{ args, env []string }{
		"--code":       {args: []string{"--code", secretKey}},
		"DURABLE_CODE": {env: []string{"DURABLE_CODE=" + secretKey}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t.Context(), append(given.env, a.env...), append([]string{"dashboard", "--url", a.URL}, given.args...)...)
			var out testkit.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
			printed := regexp.MustCompile(`are at (http://127\.0\.0\.1:\d+);`)
			waitUntil(t, "the page is served", func() bool { return printed.MatchString(out.String()) })
			url := printed.FindStringSubmatch(out.String())[1]
			page := ask(t, url, "GET", "/", "", nil)
			token := regexp.MustCompile(`name="token" content="([^"]+)"`).FindStringSubmatch(page.body)
			script := regexp.MustCompile(`<script[^>]* src="([^"]+)"`).FindStringSubmatch(page.body)
			if page.status != 200 || token == nil || script == nil || !strings.Contains(page.body, a.URL) {
				t.Fatalf("the page: %+v", page)
			}
			const path = "/runtime/webhooks/durabletask"
			write := map[string]string{"Origin": url, "X-Dashboard-Token": token[1]}
			for _, c := range []struct {
				method, path string
				headers      map[string]string
				status       int
				want         string
			}{
				{"GET", path + "/instances", nil, 200, `"cloud-1"`},
				{"POST", path + "/instances/cloud-1/rewind?reason=again", write, 202, ""},
				{"POST", path + "/orchestrators/MyOrchestration", write, 202, `"cloud-2"`},
				{"POST", path + "/orchestrators/MyOrchestration", map[string]string{"Origin": url}, 403, ""},
				{"GET", path + "/instances", map[string]string{"Origin": "https://evil.example.com"}, 403, ""},
				{"GET", "/" + script[1], nil, 200, ""},
				{"GET", "/admin/host/keys", nil, 404, ""},
			} {
				r := ask(t, url, c.method, c.path, "{}", c.headers)
				if r.status != c.status || !strings.Contains(r.body, c.want) {
					t.Errorf("%s %s: %d %s, want %d and %s", c.method, c.path, r.status, r.body, c.status, c.want)
				}
				if strings.Contains(r.all, secretKey) {
					t.Errorf("%s %s tells the key: %s", c.method, c.path, r.all)
				}
			}
			if strings.Contains(page.all+out.String(), secretKey) {
				t.Errorf("the key is in the page or the log:\n%s\n%s", page.all, &out)
			}
		})
	}
	t.Cleanup(func() { a.keepsKey(t) })
}

// answered is an answer; all holds its headers and its body.
type answered struct {
	status    int
	body, all string
}

func ask(t *testing.T, url, method, path, body string, headers map[string]string) answered {
	t.Helper()
	var reader io.Reader
	if method == "POST" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{res.StatusCode, string(text), fmt.Sprint(string(text), res.Header)}
}
