package config

import "strings"

// environment holds variables under their names in lower case, because the host ignores case.
type environment map[string]string

func parseEnviron(environ []string) environment {
	env := environment{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			env[strings.ToLower(name)] = value
		}
	}
	return env
}

func (e environment) get(name string) string {
	return e[strings.ToLower(name)]
}

// hostSettings returns the variables that override host.json, under the keys of settings.
func (e environment) hostSettings() map[string]string {
	overrides := map[string]string{}
	for name, value := range e {
		if key, ok := strings.CutPrefix(strings.ReplaceAll(name, "__", ":"), "azurefunctionsjobhost:"); ok {
			overrides[key] = value
		}
	}
	return overrides
}

// disabled says whether a variable switches the function off.
func (e environment) disabled(function string) bool {
	return isTrue(e.get("AzureWebJobs."+function+".Disabled")) ||
		isTrue(e.get("AzureWebJobs__"+function+"__Disabled")) ||
		isTrue(e.get("AzureWebJobs_"+function+"_Disabled"))
}
