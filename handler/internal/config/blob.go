package config

import (
	"regexp"
	"strings"
)

// BlobTrigger is the binding type of blobs that appear.
const BlobTrigger = "blobTrigger"

var placeholder = regexp.MustCompile(`\\\{([A-Za-z0-9_]+)\\\}`)

// BlobPath returns the container of a blobTrigger's path, such as samples/{name}.{ext}, and what matches the names of its
// blobs, giving the placeholders' values.
func (b Binding) BlobPath() (container string, match func(name string) (params map[string]string, ok bool)) {
	container, names, _ := strings.Cut(b.Property("path"), "/")
	if names == "" {
		names = "{name}"
	}
	pattern, err := regexp.Compile("^" + placeholder.ReplaceAllString(regexp.QuoteMeta(names), "(?P<$1>.+)") + "$")
	return container, func(name string) (map[string]string, bool) {
		if err != nil {
			return nil, false
		}
		groups := pattern.FindStringSubmatch(name)
		if groups == nil {
			return nil, false
		}
		params := map[string]string{}
		for i, group := range pattern.SubexpNames()[1:] {
			params[group] = groups[i+1]
		}
		return params, true
	}
}
