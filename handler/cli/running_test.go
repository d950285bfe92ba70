package cli

import (
	"net"
	"os"
	"strings"
	"testing"
)

// The address in the file is used only if it can be true.
func TestRunningAt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	listening := l.Addr().String()
	for name, c := range map[string]struct{ text, want string }{
		"listening":   {listening, listening},
		"nobody":      {nobody.Addr().String(), ""},
		"empty":       {"", ""},
		"not local":   {"192.0.2.1:80", ""},
		"a name":      {strings.Replace(listening, "127.0.0.1", "localhost", 1), ""},
		"shell words": {listening + "; rm -rf /", ""},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			if err := keepAddress(data, c.text); err != nil {
				t.Fatal(err)
			}
			if got := runningAt(data); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			forgetAddress(data)
			if _, err := os.Stat(addressFile(data)); err == nil {
				t.Error("the file is still there")
			}
		})
	}
	if got := runningAt(t.TempDir()); got != "" {
		t.Errorf("without a file: %q", got)
	}
}

func TestPostCommand(t *testing.T) {
	t.Parallel()
	const curl = "curl -i http://127.0.0.1:7071/admin/functions/MyClientFunction -H 'Content-Type: application/json'"
	for _, c := range []struct{ file, message, want string }{
		{"m.json", `{"Batch":"it's"}`, curl + ` -d '{"input":"{\"Batch\":\"it'\''s\"}"}'`},
		{"m.json", "\u202e\x1b", curl + ` -d '{"input":"\u202e\u001b"}'`},
		{"my m.json", strings.Repeat("x", 5000), "jq -Rs '{input:.}' 'my m.json' | " + curl + " -d @-"},
		{"-", strings.Repeat("x", 5000), "jq -Rs '{input:.}' | " + curl + " -d @-"},
	} {
		if got := postCommand("127.0.0.1:7071", "MyClientFunction", c.file, c.message); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
