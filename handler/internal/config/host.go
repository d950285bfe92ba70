package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailscale/hujson"

	"example.com/durablefunctions/handler/internal/dotnet"
)

// Host is the effective host.json: the file with the overrides from the environment.
type Host struct {
	// FunctionTimeout is "functionTimeout", the longest time that an invocation may run. 0 with TimeoutSet stands for "-1",
	// no limit. Without TimeoutSet the host's default applies: 5 minutes on a Consumption plan, 30 elsewhere.
	FunctionTimeout time.Duration
	TimeoutSet      bool

	HubName                    string // the task hub, extensions.durableTask.hubName
	MaxConcurrentActivities    int    // extensions.durableTask.maxConcurrentActivityFunctions
	MaxConcurrentOrchestrators int    // extensions.durableTask.maxConcurrentOrchestratorFunctions
	MaxConcurrentEntities      int    // extensions.durableTask.maxConcurrentEntityFunctions
	MaxEntityBatch             int    // extensions.durableTask.maxEntityOperationBatchSize
	Executable                 string // customHandler.description.defaultExecutablePath, or the same of the older httpWorker
	MaxConcurrentCalls         int    // extensions.serviceBus.maxConcurrentCalls
	DefaultVersion             string // extensions.durableTask.defaultVersion
	VersionMatchStrategy       string // extensions.durableTask.versionMatchStrategy
	VersionFailureStrategy     string // extensions.durableTask.versionFailureStrategy
	Retry                      *Retry // "retry", for the functions without a policy of their own; nil: none
	RoutePrefix                string // extensions.http.routePrefix, without slashes at its ends
	ForwardHTTP                bool   // customHandler.enableForwardingHttpRequest

	Tracing bool // extensions.durableTask.tracing: the host sends durable functions the header traceparent

	SendGridFrom, SendGridTo string // extensions.sendGrid.from and .to, for mails without these addresses

	Functions []string // "functions": the only ones that the host loads; empty: all
}

// Defaults of the host and its extensions.
const (
	defaultHubName            = "TestHubName"
	defaultConcurrencyPerCore = 10
	defaultMaxConcurrentCalls = 16
	defaultMaxEntityBatch     = 50 // on a Consumption plan, 5,000 elsewhere
)

const hostFileName = "host.json"

func readHost(root string) ([]byte, error) {
	text, err := readFile(root, hostFileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("host.json not found in %s: run in the app root, or set FUNCTIONS_APP_ROOT_PATH to it", root)
	}
	return text, err
}

func loadHost(root string, env environment) (Host, error) {
	text, err := readHost(root)
	if err != nil {
		return Host{}, err
	}
	host, err := parseHost(text, env)
	if err != nil {
		return Host{}, fmt.Errorf("%s: %w", hostFileName, first(err))
	}
	return host, nil
}

// parseHost reads a host.json. The error joins all problems.
func parseHost(text []byte, env environment) (Host, error) {
	s, err := hostSettings(text, env)
	if err != nil {
		return Host{}, err
	}
	root, err := parseJSON(text)
	if err != nil {
		return Host{}, err
	}
	h, err := s.host(env)
	err = errors.Join(checkVersion(root), s.checkHandler(root), err)
	if err != nil {
		return Host{}, err
	}
	return h, nil
}

// checkVersion checks "version". The host knows only this spelling, and lets no variable override it.
func checkVersion(root hujson.Value) error {
	version, _, there := child(root, "version")
	if there && !hasExactly(root, "version") {
		return at(errors.New(`the host finds "version" in small letters only: write "version": "2.0"`), "version")
	}
	literal, isLiteral := version.Value.(hujson.Literal)
	switch {
	case !there:
		return errors.New(`"version" is "": it must be "2.0"`)
	case !isLiteral || literal.Kind() != '"':
		return at(fmt.Errorf(`"version" is %s: it must be the string "2.0"`, bytes.TrimSpace(version.Pack())), "version")
	case literal.String() != "2.0":
		return at(fmt.Errorf(`"version" is %q: it must be "2.0"`, literal.String()), "version")
	}
	return nil
}

// hasExactly says whether an object has a property in this spelling.
func hasExactly(v hujson.Value, name string) bool {
	object, ok := v.Value.(*hujson.Object)
	return ok && slices.ContainsFunc(object.Members, func(m hujson.ObjectMember) bool { return memberName(m) == name })
}

// checkHandler refuses a customHandler section without a binary. A missing section passes, because some app roots that are
// read here are not for the host.
func (s settings) checkHandler(root hujson.Value) error {
	for _, section := range []string{"customHandler", "httpWorker"} {
		if _, _, there := child(root, section); there {
			if s[strings.ToLower(section)+":description:defaultexecutablepath"] == "" {
				return at(fmt.Errorf(`%s.description.defaultExecutablePath is missing: say which binary the host starts, for example "app"`, section), section)
			}
			return nil
		}
	}
	return nil
}

// settings holds the scalars of host.json by path, as .NET configuration keeps them: in lower case, parts joined by ":", list
// entries by their number.
type settings map[string]string

// hostSettings returns the settings of a host.json with the environment's overrides.
func hostSettings(text []byte, env environment) (settings, error) {
	root, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	s := settings{}
	s.flatten("", root)
	for key, value := range env.hostSettings() {
		s[key] = value
	}
	return s, nil
}

// flatten adds what v contains. If two properties differ only in case, the later one counts.
func (s settings) flatten(key string, v hujson.Value) {
	prefix := key
	if key != "" {
		prefix += ":"
	}
	switch v := v.Value.(type) {
	case *hujson.Object:
		for _, m := range v.Members {
			s.flatten(prefix+strings.ToLower(memberName(m)), m.Value)
		}
	case *hujson.Array:
		for i, e := range v.Elements {
			s.flatten(prefix+strconv.Itoa(i), e)
		}
	case hujson.Literal:
		if v.Kind() != 'n' {
			s[key] = v.String()
		}
	}
}

// list returns the entries of a list in their order.
func (s settings) list(key string) []string {
	var entries []string
	for name := range s {
		if number, ok := strings.CutPrefix(name, key+":"); ok && !strings.Contains(number, ":") {
			entries = append(entries, name)
		}
	}
	slices.Sort(entries)
	for i, name := range entries {
		entries[i] = s[name]
	}
	return entries
}

const (
	durableTask     = "extensions:durabletask:"
	storageProvider = durableTask + "storageprovider:"
)

func (s settings) host(env environment) (Host, error) {
	perCore := defaultConcurrencyPerCore * runtime.NumCPU()
	h := Host{
		Executable: cmp.Or(s["customhandler:description:defaultexecutablepath"], s["httpworker:description:defaultexecutablepath"]),
		Functions:  s.list("functions"),

		SendGridFrom: s["extensions:sendgrid:from"],
		SendGridTo:   s["extensions:sendgrid:to"],

		DefaultVersion:         s[durableTask+"defaultversion"],
		VersionMatchStrategy:   s[durableTask+"versionmatchstrategy"],
		VersionFailureStrategy: s[durableTask+"versionfailurestrategy"],

		Tracing: isTrue(s[durableTask+"tracing:distributedtracingenabled"]) && strings.EqualFold(s[durableTask+"tracing:version"], "V2"),

		RoutePrefix: s.routePrefix(),
		ForwardHTTP: isTrue(s["customhandler:enableforwardinghttprequest"]),
	}
	var errs [10]error
	h.FunctionTimeout, h.TimeoutSet, errs[0] = s.timeout()
	h.HubName, errs[1] = s.hubName(env)
	h.MaxConcurrentActivities, errs[2] = s.count("extensions.durableTask.maxConcurrentActivityFunctions", perCore, math.MaxInt32)
	h.MaxConcurrentOrchestrators, errs[3] = s.count("extensions.durableTask.maxConcurrentOrchestratorFunctions", perCore, math.MaxInt32)
	h.MaxConcurrentCalls, errs[4] = s.count("extensions.serviceBus.maxConcurrentCalls", defaultMaxConcurrentCalls, math.MaxInt32)
	h.Retry, errs[5] = s.retry()
	errs[5] = at(errs[5], "retry")
	if isTrue(s[durableTask+"extendedsessionsenabled"]) {
		errs[6] = at(errors.New("extensions.durableTask.extendedSessionsEnabled is true: the host refuses to start a custom handler with it, remove it"),
			"extensions", "durableTask", "extendedSessionsEnabled")
	}
	errs[7] = s.checkStorageProvider()
	h.MaxConcurrentEntities, errs[8] = s.count("extensions.durableTask.maxConcurrentEntityFunctions", perCore, math.MaxInt32)
	h.MaxEntityBatch, errs[9] = s.count("extensions.durableTask.maxEntityOperationBatchSize", defaultMaxEntityBatch, math.MaxInt32)
	return h, errors.Join(errs[:]...)
}

// sendGridDefaults fills in the addresses of host.json in the function's sendGrid outputs that name none.
func (h Host) sendGridDefaults(f Function) {
	for _, b := range f.Bindings {
		for name, text := range map[string]string{"from": h.SendGridFrom, "to": h.SendGridTo} {
			if b.Is("sendGrid") && b.Property(name) == "" && text != "" {
				b.Properties[name] = text
			}
		}
	}
}

// storageProviders are the backends of the bundle's Durable Task extension.
var storageProviders = []string{"AzureStorage", "azureManaged", "mssql", "Netherite"}

// onAzureStorage says whether the hub is kept in Azure Storage, the default.
func (s settings) onAzureStorage() bool {
	kind := s[storageProvider+"type"]
	return kind == "" || strings.EqualFold(kind, storageProviders[0])
}

// checkStorageProvider checks the backend's options, as the extension does at its start.
func (s settings) checkStorageProvider() error {
	kind := s[storageProvider+"type"]
	if kind != "" && !slices.ContainsFunc(storageProviders, func(known string) bool { return strings.EqualFold(kind, known) }) {
		return at(fmt.Errorf("extensions.durableTask.storageProvider.type %q is not known: it must be one of %s", kind, strings.Join(storageProviders, ", ")),
			"extensions", "durableTask", "storageProvider", "type")
	}
	if !s.onAzureStorage() {
		return nil
	}
	const path = "extensions.durableTask.storageProvider."
	_, batch := s.count(path+"controlQueueBatchSize", 32, math.MaxInt32)
	_, partitions := s.count(path+"partitionCount", 4, 16)
	_, buffer := s.count(path+"controlQueueBufferThreshold", 256, 1000)
	return errors.Join(batch, partitions, buffer,
		s.span(path+"controlQueueVisibilityTimeout", time.Minute, time.Hour),
		s.span(path+"maxQueuePollingInterval", 100, math.MaxInt64))
}

// span checks a time span.
func (s settings) span(path string, least, most time.Duration) error {
	text := s[settingKey(path)]
	if text == "" {
		return nil
	}
	d, err := dotnet.ParseTimeSpan(text)
	switch {
	case err != nil:
		err = fmt.Errorf("%s: %w", path, err)
	case d < least || d > most:
		err = fmt.Errorf("%s is %q: the extension takes %s to %s", path, text, dotnet.FormatTimeSpan(least), dotnet.FormatTimeSpan(most))
	}
	return at(err, strings.Split(path, ".")...)
}

// settingKey is the key of a path that is written with dots.
func settingKey(path string) string { return strings.ToLower(strings.ReplaceAll(path, ".", ":")) }

func (s settings) timeout() (limit time.Duration, set bool, err error) {
	text, set := s["functiontimeout"]
	switch text = strings.TrimSpace(text); {
	case !set || text == "":
		return 0, false, nil
	case text == "-1" || text == "-1.00:00:00":
		return 0, true, nil
	}
	limit, err = dotnet.ParseTimeSpan(text)
	if err != nil {
		return 0, false, at(fmt.Errorf("functionTimeout: %w", err), "functionTimeout")
	}
	if limit < time.Second {
		return 0, false, at(fmt.Errorf(`functionTimeout %q is too short: at least one second, or "-1" for none`, text), "functionTimeout")
	}
	return limit, true, nil
}

// validHubName matches the hub names that Azure Storage accepts for tables, queues and containers. Other backends accept any
// name.
var validHubName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,49}$`)

// hubName returns the hub's name. As in all settings of the extension, "%SETTING%" stands for an app setting.
func (s settings) hubName(env environment) (string, error) {
	name, ok := s[durableTask+"hubname"]
	if !ok {
		return defaultHubName, nil
	}
	if setting := strings.Trim(name, "%"); len(setting) == len(name)-2 && setting != "" {
		name = env.get(setting)
	}
	if name == "" || s.onAzureStorage() && !validHubName.MatchString(name) {
		return "", at(fmt.Errorf("extensions.durableTask.hubName %q is not a task hub's name: 3 to 50 letters and digits, a letter first", name),
			"extensions", "durableTask", "hubName")
	}
	return name, nil
}

func (s settings) count(path string, byDefault, most int) (int, error) {
	text, ok := s[settingKey(path)]
	if !ok {
		return byDefault, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	place := strings.Split(path, ".")
	switch {
	case err != nil || n < 1:
		return 0, at(fmt.Errorf("%s is %q: it must be a whole number above 0", path, text), place...)
	case n > int64(most):
		return 0, at(fmt.Errorf("%s is %q: it must be at most %d", path, text, most), place...)
	}
	return int(n), nil
}
