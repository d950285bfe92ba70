package config

import (
	"fmt"
	"net/url"
	"strings"
)

// LocalCORS returns the origins in Host.CORS of root's local.settings.json: the web pages that may call func start. "*" means
// any. Without the setting it returns none.
func LocalCORS(root string) (origins []string, err error) {
	err = readLocalSettings(root, func(text []byte) (err error) {
		origins, err = parseLocalCORS(text)
		return err
	})
	return origins, err
}

func parseLocalCORS(text []byte) (origins []string, err error) {
	settings, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	host, _ := lookup(settings, "Host").(map[string]any)
	value := lookup(host, "CORS")
	if value == nil {
		return nil, nil
	}
	list, _ := scalar(value)
	for origin := range strings.SplitSeq(list, ",") {
		origin = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(origin), "/"))
		u, err := url.Parse(origin)
		switch {
		case origin == "":
			continue
		case origin != "*" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || origin != u.Scheme+"://"+u.Host || u.Host == ""):
			return nil, fmt.Errorf("\"Host.CORS\" names %q: it must be *, or origins such as http://localhost:3000, with commas between them", origin)
		}
		origins = append(origins, origin)
	}
	return origins, nil
}
