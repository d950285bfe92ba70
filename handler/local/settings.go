package local

import "example.com/durablefunctions/handler/internal/config"

// Settings returns the Values of local.settings.json in the app root, or nothing if the file does not exist. Environment variables
// with the same names take precedence.
func Settings(root string) (map[string]string, error) { return config.LocalSettings(root) }

// HTTPPort returns Host.LocalHttpPort of local.settings.json in the app root, the port on which func start listens; 0 if it is not
// set.
func HTTPPort(root string) (uint16, error) { return config.LocalHTTPPort(root) }
