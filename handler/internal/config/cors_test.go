package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestLocalCORS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"Host":{"CORS":"*"}}`: "[*]",
		`{"host":{"cors":"http://localhost:3000, https://A.example/,"}}`: "[http://localhost:3000 https://a.example]",
		`{"Host":{"CORS":""}}`:               "[]",
		`{"Host":{"CORS":null}}`:             "[]",
		`{"Host":{"LocalHttpPort":7072}}`:    "[]",
		`{}`:                                 "[]",
		`{"Host":{"CORS":"localhost:3000"}}`: "error",
		`{"Host":{"CORS":"http://localhost:3000/page"}}`:                   "error",
		`{"Host":{"CORS":"http://localhost:3000;http://localhost:4000/"}}`: "error",
		`{"Host":{"CORS":"http://user@localhost"}}`:                        "error",
		`{"Host":{"CORS":"file:///x"}}`:                                    "error",
		`{"Host":{"CORS":"http://"}}`:                                      "error",
	} {
		origins, err := LocalCORS(writeApp(t, map[string]string{"local.settings.json": text}))
		if (err != nil) != (want == "error") || err == nil && fmt.Sprint(origins) != want {
			t.Errorf("%s: %v, %v; want %s", text, origins, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "local.settings.json")) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if origins, err := LocalCORS(t.TempDir()); err != nil || len(origins) != 0 {
		t.Errorf("without a file: %v, %v", origins, err)
	}
}
