package config

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"example.com/durablefunctions/handler/internal/dotnet"
)

// Host is the effective host.json: the file with the environment's overrides.
type Host struct {
	// FunctionTimeout is "functionTimeout", the longest that an invocation may run; 0 with TimeoutSet is "-1", no
	// limit. Without TimeoutSet the host's default holds: 5 minutes on a Consumption plan, 30 elsewhere.
	FunctionTimeout time.Duration
	TimeoutSet      bool

	HubName                    string // the task hub, extensions.durableTask.hubName
	MaxConcurrentActivities    int    // extensions.durableTask.maxConcurrentActivityFunctions
	MaxConcurrentOrchestrators int    // extensions.durableTask.maxConcurrentOrchestratorFunctions
	Executable                 string // customHandler.description.defaultExecutablePath
	MaxConcurrentCalls         int    // extensions.serviceBus.maxConcurrentCalls
	Retry                      *Retry // "retry", of the functions without one of their own; nil: none
}

// Defaults of the host and its extensions.
const (
	defaultHubName            = "TestHubName"
	defaultConcurrencyPerCore = 10
	defaultMaxConcurrentCalls = 16
)

func loadHost(root string, env environment) (Host, error) {
	const file = "host.json"
	text, err := readFile(root, file)
	if errors.Is(err, fs.ErrNotExist) {
		return Host{}, fmt.Errorf("host.json not found in %s: run in the app root, or set FUNCTIONS_APP_ROOT_PATH to it", root)
	} else if err != nil {
		return Host{}, err
	}
	host, err := parseHost(text, env)
	if err != nil {
		return Host{}, fmt.Errorf("%s: %w", file, err)
	}
	return host, nil
}

func parseHost(text []byte, env environment) (Host, error) {
	object, err := parseObject(text)
	if err != nil {
		return Host{}, err
	}
	s := settings{}
	if err := s.flatten("", object); err != nil {
		return Host{}, err
	}
	if version := s["version"]; version != "2.0" {
		return Host{}, fmt.Errorf(`"version" is %q: it must be "2.0"`, version)
	}
	for key, value := range env.hostSettings() {
		s[key] = value
	}
	return s.host(env)
}

// settings are the scalars of host.json by path, as .NET configuration keeps them: lower-case, parts joined by ":".
type settings map[string]string

func (s settings) flatten(prefix string, object map[string]any) error {
	seen := map[string]bool{}
	for name, value := range object {
		key := prefix + strings.ToLower(name)
		if seen[key] {
			return fmt.Errorf("%q is there twice, in different case: remove one", name)
		}
		seen[key] = true
		if child, ok := value.(map[string]any); ok {
			if err := s.flatten(key+":", child); err != nil {
				return err
			}
		} else if text, ok := scalar(value); ok {
			s[key] = text
		}
	}
	return nil
}

const durableTask = "extensions:durabletask:"

func (s settings) host(env environment) (Host, error) {
	if isTrue(s[durableTask+"extendedsessionsenabled"]) {
		return Host{}, errors.New("extensions.durableTask.extendedSessionsEnabled is true: the host refuses to start a custom handler with it, remove it")
	}
	perCore := defaultConcurrencyPerCore * runtime.NumCPU()
	h := Host{Executable: s["customhandler:description:defaultexecutablepath"]}
	var errs [6]error
	h.FunctionTimeout, h.TimeoutSet, errs[0] = s.timeout()
	h.HubName, errs[1] = s.hubName(env)
	h.MaxConcurrentActivities, errs[2] = s.count("extensions.durableTask.maxConcurrentActivityFunctions", perCore)
	h.MaxConcurrentOrchestrators, errs[3] = s.count("extensions.durableTask.maxConcurrentOrchestratorFunctions", perCore)
	h.MaxConcurrentCalls, errs[4] = s.count("extensions.serviceBus.maxConcurrentCalls", defaultMaxConcurrentCalls)
	h.Retry, errs[5] = s.retry()
	for _, err := range errs {
		if err != nil {
			return Host{}, err
		}
	}
	return h, nil
}

func (s settings) timeout() (limit time.Duration, set bool, err error) {
	text, set := s["functiontimeout"]
	switch text = strings.TrimSpace(text); {
	case !set || text == "":
		return 0, false, nil
	case text == "-1":
		return 0, true, nil
	}
	limit, err = dotnet.ParseTimeSpan(text)
	if err != nil {
		return 0, false, fmt.Errorf("functionTimeout: %w", err)
	}
	if limit < time.Second {
		return 0, false, fmt.Errorf(`functionTimeout %q is too short: at least one second, or "-1" for none`, text)
	}
	return limit, true, nil
}

var validHubName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{2,44}$`)

// hubName may name an app setting as "%SETTING%", as everywhere in the extension's settings.
func (s settings) hubName(env environment) (string, error) {
	name, ok := s[durableTask+"hubname"]
	if !ok {
		return defaultHubName, nil
	}
	if setting := strings.Trim(name, "%"); len(setting) == len(name)-2 && setting != "" {
		name = env.get(setting)
	}
	if !validHubName.MatchString(name) {
		return "", fmt.Errorf("extensions.durableTask.hubName %q is not a task hub's name: 3 to 45 letters and digits, a letter first", name)
	}
	return name, nil
}

func (s settings) count(path string, byDefault int) (int, error) {
	text, ok := s[strings.ToLower(strings.ReplaceAll(path, ".", ":"))]
	if !ok {
		return byDefault, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q: it must be a whole number above 0", path, text)
	}
	return int(n), nil
}
