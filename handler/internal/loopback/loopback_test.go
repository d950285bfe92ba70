package loopback

import "testing"

func TestIs(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:7071": true, "127.1.2.3": true, "localhost": true, "LOCALHOST:80": true, "::1": true, "[::1]": true, "[::1]:7071": true,
		"": false, ":80": false, "example.com": false, "localhost.example.com": false, "127.0.0.1.example.com:80": false, "192.168.1.5": false, "0.0.0.0": false, "[::]:1": false,
	} {
		if got := Is(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}
