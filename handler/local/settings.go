package local

import "example.com/durablefunctions/handler/internal/config"

// Settings returns the Values of local.settings.json in the app root; none if there is no such file. Environment
// variables of the same name win over them.
func Settings(root string) (map[string]string, error) { return config.LocalSettings(root) }

// HTTPPort returns Host.LocalHttpPort of local.settings.json in the app root, on which func start listens; 0 if there is
// none.
func HTTPPort(root string) (uint16, error) { return config.LocalHTTPPort(root) }
