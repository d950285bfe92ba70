package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hostFile is a host.json that Check has read. Its other fields are empty if Load would refuse the file.
type hostFile struct {
	Host
	file     file
	settings settings
	forwards bool // customHandler.enableForwardingHttpRequest
}

// consumptionLimit is the longest functionTimeout on a Consumption plan.
const consumptionLimit = 10 * time.Minute

func (c *checker) checkHost() hostFile {
	text, err := readHost(c.root)
	if err != nil {
		c.failAll(hostFileName, file{}, err)
		return hostFile{}
	}
	h := hostFile{file: openFile(text)}
	if h.Host, err = parseHost(text, c.env); err != nil {
		c.failAll(hostFileName, h.file, err)
	}
	if h.settings, err = hostSettings(text, c.env); err != nil {
		return h // not even JSON
	}
	h.forwards = isTrue(h.settings["customhandler:enableforwardinghttprequest"]) && h.file.has("customHandler")
	c.checkExecutable(h)
	c.checkBundle(h)
	c.checkStorage(h)
	if h.FunctionTimeout > consumptionLimit || h.TimeoutSet && h.FunctionTimeout == 0 {
		c.warn(hostFileName, h.file.line("functionTimeout"), "functionTimeout is above 10 minutes: the host does not start with it on a Consumption plan (on Flex Consumption and the others it does)")
	}
	if h.file.has("logging", "extensions") {
		c.fail(hostFileName, h.file.line("logging", "extensions"), `"extensions" lies below "logging", where the host does not look: move it to the top`)
	}
	return h
}

// checkExecutable checks that host.json names the binary.
func (c *checker) checkExecutable(h hostFile) {
	if h.file.has("httpWorker") {
		c.warn(hostFileName, h.file.line("httpWorker"), `"httpWorker" is the old name of "customHandler": rename it (the host forwards all HTTP functions with it, and drops it one day)`)
	}
	switch {
	case h.Executable == "" && !h.file.has("customHandler") && !h.file.has("httpWorker"):
		c.fail(hostFileName, 0, `there is no "customHandler": add {"description": {"defaultExecutablePath": "app"}} with the binary's name`)
		return
	case h.Executable == "":
		return // Load has refused it
	}
	line := h.file.line("customHandler", "description", "defaultExecutablePath")
	switch info, err := os.Stat(filepath.Join(c.root, h.Executable)); {
	case err == nil && info.IsDir():
		c.fail(hostFileName, line, "defaultExecutablePath %q is a directory here: give the binary another name", h.Executable)
	case err != nil && strings.ContainsAny(h.Executable, `/\.`), err != nil && h.Executable == "app":
		c.warn(hostFileName, line, "the binary %s is not built yet: go build -o %s .", h.Executable, h.Executable)
	}
}

const bundleID = "Microsoft.Azure.Functions.ExtensionBundle"

// checkBundle checks that the host loads extensions: from bundle 4 or later, or from the app root.
func (c *checker) checkBundle(h hostFile) {
	id, version := h.settings["extensionbundle:id"], h.settings["extensionbundle:version"]
	line := h.file.line("extensionBundle")
	switch {
	case id == "":
		if _, err := os.Stat(filepath.Join(c.root, "bin", "extensions.json")); err != nil {
			c.fail(hostFileName, line, `there is no "extensionBundle", so the host knows no trigger but HTTP and timer: add {"id": %q, "version": "[4.*, 5.0.0)"}`, bundleID)
		}
	case !slices.ContainsFunc([]string{"", ".Preview", ".Experimental"}, func(kind string) bool { return strings.EqualFold(id, bundleID+kind) }):
		c.warn(hostFileName, h.file.line("extensionBundle", "id"), "extensionBundle.id is %q: Durable Functions, Service Bus and SendGrid are in %s", id, bundleID)
	case version == "":
		c.fail(hostFileName, line, `extensionBundle.version is missing: write "[4.*, 5.0.0)"`)
	default:
		below, ok := endsBelow4(version)
		line = h.file.line("extensionBundle", "version")
		if !ok {
			c.fail(hostFileName, line, `extensionBundle.version %q is not a range of versions: write "[4.*, 5.0.0)"`, version)
		} else if below {
			c.fail(hostFileName, line, `extensionBundle.version %q ends below 4: this handler speaks to Durable Task 3, which comes with "[4.*, 5.0.0)"`, version)
		}
	}
}

// versionRange matches a version range in NuGet's notation: "[4.*, 5.0.0)", "[4.2.0]", "4.0.0" (which means 4.0.0 or later).
var versionRange = regexp.MustCompile(`^\s*(?:([\[(])\s*(?:(\d+)(?:\.[\d.*]*)?)?\s*(?:(,)\s*(?:(\d+)((?:\.\d+)*))?)?\s*([\])])|\d+(?:\.[\d.*]+)?)\s*$`)

// endsBelow4 says whether the range ends before version 4; ok is false if the text is not a range.
func endsBelow4(text string) (below, ok bool) {
	m := versionRange.FindStringSubmatch(text)
	switch {
	case m == nil || m[1] != "" && m[2]+m[4] == "":
		return false, false
	case m[1] == "" || m[3] != "" && m[4] == "":
		return false, true // no upper end
	}
	end, rest, inclusive := m[4], m[5], m[6] == "]"
	if m[3] == "" {
		end, rest, inclusive = m[2], ".1", true // a single version
	}
	major, err := strconv.Atoi(end)
	atZero := strings.Trim(rest, ".0") == ""
	return major < 4 || major == 4 && atZero && !inclusive, err == nil
}

// checkStorage checks what the Durable Task extension needs to keep its state.
func (c *checker) checkStorage(h hostFile) {
	provider := h.file.line("extensions", "durableTask", "storageProvider")
	for _, property := range []string{"connectionName", "connectionStringName", "trackingStoreConnectionName", "trackingStoreConnectionStringName"} {
		if name := h.settings[storageProvider+strings.ToLower(property)]; name != "" {
			line := h.file.line("extensions", "durableTask", "storageProvider", property)
			c.checkConnection(hostFileName, line, "storageProvider."+property, name)
		}
	}
	switch kind := strings.ToLower(h.settings[storageProvider+"type"]); {
	case (kind == "azuremanaged" || kind == "mssql") && h.settings[storageProvider+"connectionstringname"] == "" && h.settings[storageProvider+"connectionname"] == "":
		c.fail(hostFileName, provider, "storageProvider needs a connectionStringName: the setting with the connection string of the %s backend", h.settings[storageProvider+"type"])
	}
	if !c.env.answers("AzureWebJobsStorage") {
		c.fail(c.settingsFile, 0, "setting AzureWebJobsStorage is missing: the host keeps its own state there; set it, or AzureWebJobsStorage__accountName for a managed identity (here: UseDevelopmentStorage=true)")
	}
}
