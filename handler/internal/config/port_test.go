package config

import "testing"

func TestLocalHTTPPort(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint16{
		`{"Host":{"LocalHttpPort":7072,"CORS":"*"}}`: 7072, `{"host":{"localhttpport":"7073"}}`: 7073,
		`{"Values":{"A":"b"}}`: 0, `{"Host":{"CORS":"*"}}`: 0, `{"Host":null}`: 0, `{"Host":{"LocalHttpPort":null}}`: 0,
	} {
		if port, err := LocalHTTPPort(writeApp(t, map[string]string{"local.settings.json": text})); err != nil || port != want {
			t.Errorf("%s: %d, %v", text, port, err)
		}
	}
	for _, text := range []string{`{"Host":{"LocalHttpPort":"x"}}`, `{"Host":{"LocalHttpPort":70000}}`, `{"Host":{"LocalHttpPort":0}}`} {
		if port, err := LocalHTTPPort(writeApp(t, map[string]string{"local.settings.json": text})); err == nil {
			t.Errorf("%s: %d", text, port)
		}
	}
	if port, err := LocalHTTPPort(t.TempDir()); err != nil || port != 0 {
		t.Errorf("without a file: %d, %v", port, err)
	}
}

// TestNullSetting: a setting that is null counts as absent.
func TestNullSetting(t *testing.T) {
	t.Parallel()
	values, err := LocalSettings(writeApp(t, map[string]string{"local.settings.json": `{"Values":{"A":null,"B":"b"}}`}))
	if _, there := values["A"]; err != nil || there || values["B"] != "b" {
		t.Errorf("%v, %v", values, err)
	}
}
