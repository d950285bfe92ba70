package crm

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inDir := filepath.Join(dir, "default.db")
	tests := map[string]struct {
		settings map[string]string
		path     string // of the SQLite store
		base     string // of the REST store
		timeout  time.Duration
		err      string
	}{
		"nothing set":   {path: inDir},
		"CRM_DATABASE":  {settings: map[string]string{"CRM_DATABASE": filepath.Join(dir, "mine.db")}, path: filepath.Join(dir, "mine.db")},
		"a token alone": {settings: map[string]string{"CRM_TOKEN": "s3cret"}, path: inDir},
		"CRM_BASE_URL": {
			settings: map[string]string{"CRM_BASE_URL": " https://crm.example.com/api/ ", "CRM_TOKEN": "s3cret\n", "CRM_DATABASE": "x.db"},
			base:     "https://crm.example.com/api",
		},
		"bad CRM_BASE_URL": {settings: map[string]string{"CRM_BASE_URL": "crm.example.com"}, err: "CRM_BASE_URL"},
		"CRM_TIMEOUT": {
			settings: map[string]string{"CRM_BASE_URL": "https://crm.example.com/api", "CRM_TOKEN": "s3cret", "CRM_TIMEOUT": "5s"},
			base:     "https://crm.example.com/api", timeout: 5 * time.Second,
		},
		"bad CRM_TIMEOUT": {settings: map[string]string{"CRM_BASE_URL": "https://crm.example.com", "CRM_TIMEOUT": "5"}, err: "CRM_TIMEOUT"},
		"no CRM_TIMEOUT":  {settings: map[string]string{"CRM_BASE_URL": "https://crm.example.com", "CRM_TIMEOUT": "0s"}, err: "CRM_TIMEOUT"},
		"bad CRM_TOKEN": {
			settings: map[string]string{"CRM_BASE_URL": "https://crm.example.com", "CRM_TOKEN": "s3cret\nX-Evil: 1"},
			err:      "CRM_TOKEN",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := Open(func(name string) string { return test.settings[name] }, inDir)
			if (err == nil) != (test.err == "") || err != nil && (!strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret")) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			switch store := store.(type) {
			case nil:
				if err == nil {
					t.Error("neither store nor error")
				}
			case *SQLite:
				if store.path != test.path {
					t.Errorf("database %q, want %q", store.path, test.path)
				}
			case *REST:
				if store.base != test.base || store.token != "s3cret" || store.records.HTTPClient.Timeout != test.timeout {
					t.Errorf("base URL %q, want %q", store.base, test.base)
				}
			}
		})
	}
}

func TestOpenNoPath(t *testing.T) {
	t.Parallel()
	if _, err := Open(func(string) string { return "" }, ""); err == nil || !strings.Contains(err.Error(), "CRM_DATABASE") {
		t.Errorf("got %v", err)
	}
}

func TestRecordErrorIsOneLine(t *testing.T) {
	t.Parallel()
	err := error(&RecordError{RecordID: "a\nb\x00" + strings.Repeat("c", 1000), Reason: "is not in the store"})
	got := err.Error()
	if want := "record a b" + " "; !strings.HasPrefix(got, want) || strings.ContainsAny(got, "\n\x00") || len(got) > 200 {
		t.Errorf("got %q", got)
	}
	if _, ok := errors.AsType[*RecordError](err); !ok {
		t.Error("not a *RecordError")
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 5, ""},
		{"abcde", 5, "abcde"},
		{"abcdef", 5, "abcd…"},
		{"ääääää", 5, "ääää…"},
		{" a\r\n\tb\u2028c\x1b[0m ", 20, "a b c [0m"},
		{"a\xffb", 5, "a�b"},
	} {
		if got := oneLine(test.text, test.limit); got != test.want {
			t.Errorf("oneLine(%q, %d): got %q, want %q", test.text, test.limit, got, test.want)
		}
	}
}
