package durable

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/durablefunctions/internal/testkit"
)

// TestStartOptions: what of each option reaches the host.
func TestStartOptions(t *testing.T) {
	t.Parallel()
	host := testkit.StartSidecar(t)
	c := newTestClient(t, host.Address)
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	id, err := c.Start(t.Context(), "Orch", "all", 1, StartTags(map[string]string{"color": "red"}), StartAt(at), StartVersion("2.0"),
		StartTrace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"))
	wantCall(t, host, err, "StartInstance", map[string]string{
		"instanceId": id, "name": "Orch", "input": "1", "tags[color]": "red", "scheduledStartTimestamp": "2030-01-02T03:04:05.000000006Z", "version": "2.0",
		"parentTraceContext": "", "parentTraceContext.traceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "parentTraceContext.traceState": "a=b",
	})
	if i, err := c.Query(t.Context(), id); err != nil || cmp.Diff(i.Tags, map[string]string{"color": "red"}) != "" {
		t.Errorf("got %+v, %v", i, err)
	}
	if _, err := c.StartOnce(t.Context(), "Orch", "once", 1, StartVersion("1.0")); err != nil || lastCall(t, host, "StartInstance")["version"] != "1.0" {
		t.Errorf("started once: %v, %v", lastCall(t, host, "StartInstance"), err)
	}
	again, err := c.Restart(t.Context(), id, true)
	if err != nil || again == id {
		t.Errorf("restarted %q, %v", again, err)
	}
	wantCall(t, host, err, "RestartInstance", map[string]string{"instanceId": id, "restartWithNewInstanceId": "true"})
}

// TestStartVersion: a version that the host would leave Pending for ever is refused before the call.
func TestStartVersion(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		versions *Versions
		version  string
		want     error
	}{
		"the settings are not known":      {nil, "2.0", nil},
		"no defaultVersion":               {&Versions{}, "2.0", ErrBadVersion},
		"no defaultVersion, an empty one": {&Versions{}, "", nil},
		"the same":                        {&Versions{Default: "2.0"}, "2.0", nil},
		"older":                           {&Versions{Default: "2.0"}, "1.9", nil},
		"newer":                           {&Versions{Default: "2.0"}, "2.1", ErrBadVersion},
		"numbers, not text":               {&Versions{Default: "10.0"}, "9.0", nil},
		"numbers, newer":                  {&Versions{Default: "9.0"}, "10.0", ErrBadVersion},
		"a build is newer than none":      {&Versions{Default: "2.0"}, "2.0.0", ErrBadVersion},
		"text":                            {&Versions{Default: "beta"}, "ALPHA", nil},
		"text, newer":                     {&Versions{Default: "alpha"}, "beta", ErrBadVersion},
		"strict, the same":                {&Versions{Default: "2.0", Match: "strict"}, "2.0", nil},
		"strict, older":                   {&Versions{Default: "2.0", Match: "Strict"}, "1.0", ErrBadVersion},
		"any":                             {&Versions{Match: "None"}, "7", nil},
		"failed by the host":              {&Versions{Failure: "Fail"}, "7", nil},
	} {
		host := testkit.StartSidecar(t)
		c := newTestClient(t, host.Address)
		if test.versions != nil {
			c.SetVersions(*test.versions)
		}
		_, err := c.Start(t.Context(), "Orch", "x", nil, StartVersion(test.version))
		expectError(t, name, err, test.want)
		if called := len(host.Calls()) == 1; called != (test.want == nil) {
			t.Errorf("%s: the host was called: %t", name, called)
		}
		if _, err := c.Start(t.Context(), "Orch", "y", nil); err != nil {
			t.Errorf("%s: a start without a version: %v", name, err)
		}
	}
}
