package config

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// percent is a setting's name in a property: "%QUEUE%".
var percent = regexp.MustCompile(`%([^%\s]+)%`)

// connectionProperties name a setting, or the beginning of several: X, or X__fullyQualifiedNamespace, X__accountName and the
// like for a managed identity.
var connectionProperties = []string{"connection", "connectionStringSetting"}

// defaultConnections are the settings that a binding without a connection uses.
var defaultConnections = map[string]string{
	"servicebustrigger": "AzureWebJobsServiceBus", "servicebus": "AzureWebJobsServiceBus",
}

// checkBindingSettings checks that the settings which a binding names are there.
func (c *checker) checkBindingSettings(file string, b Binding, line func(property string) int) {
	for _, name := range slices.Sorted(maps.Keys(b.Properties)) {
		text, _ := b.Properties[name].(string)
		for _, m := range percent.FindAllStringSubmatch(text, -1) {
			if _, set := c.env[strings.ToLower(m[1])]; !set {
				c.fail(file, line(name), "%s of %s names the setting %s, which there is not: set it here in %s and in the app settings", name, b.Name, m[1], localSettingsFile)
			}
		}
	}
	for _, property := range connectionProperties {
		if name := b.Property(property); name != "" {
			c.checkConnection(file, line(property), property+" of "+b.Name, name)
		}
	}
	if name := defaultConnections[strings.ToLower(b.Type)]; name != "" && b.Property("connection") == "" {
		c.checkConnection(file, line("type"), b.Name+", without a connection,", name)
	}
	if b.Is("sendGrid") {
		name := cmp.Or(b.Property("apiKey"), "AzureWebJobsSendGridApiKey")
		if _, set := c.env[strings.ToLower(name)]; !set {
			c.fail(file, line("apiKey"), "apiKey of %s names the setting %s, which there is not: set it here in %s and in the app settings", b.Name, name, localSettingsFile)
		}
	}
}

// checkConnection checks that a connection's name is configured: as a connection string, or as the settings of a managed
// identity.
func (c *checker) checkConnection(file string, line int, what, name string) {
	name = percent.ReplaceAllStringFunc(name, func(m string) string { return c.env.get(strings.Trim(m, "%")) })
	if name == "" || c.env.answers(name) {
		return
	}
	if strings.ContainsAny(name, "=;") {
		c.fail(file, line, "%s must be the name of a setting, not a connection string: move the text to a setting", what)
		return
	}
	c.fail(file, line, "%s names the setting %s, which there is not: set %s to a connection string, or %s__fullyQualifiedNamespace (Service Bus) or %s__accountName (storage) for a managed identity", what, name, name, name, name)
}

// answers says whether a connection of that name is configured, in any of the ways in which the host looks for it.
func (e environment) answers(name string) bool {
	name = strings.ToLower(name)
	for setting := range e {
		setting = strings.ReplaceAll(setting, "__", ":")
		for _, prefix := range []string{"", "azurewebjobs", "connectionstrings:"} {
			if rest, ok := strings.CutPrefix(setting, prefix+name); ok && (rest == "" || rest[0] == ':') {
				return true
			}
		}
	}
	return false
}

// Resolve replaces each %SETTING% in a binding's property by the app setting of that name, as the host does, or by nothing if
// it is not set.
func Resolve(text string, settings func(name string) string) string {
	return percent.ReplaceAllStringFunc(text, func(m string) string { return settings(strings.Trim(m, "%")) })
}
