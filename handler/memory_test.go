package handler

import (
	"math"
	"strings"
	"testing"
	"testing/fstest"
)

func TestSystemMemory(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	meminfo := file("MemTotal:       16000000 kB\nMemFree:        1 kB")
	const machine = 16000000 << 10
	for name, c := range map[string]struct {
		system fstest.MapFS
		want   int64
	}{
		"no Linux": {fstest.MapFS{}, 0},
		"machine":  {fstest.MapFS{"proc/meminfo": meminfo}, machine},
		"cgroup 2 in a container": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/"), "sys/fs/cgroup/memory.max": file("1610612736"),
		}, 1610612736},
		"cgroup 2 without a limit": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/"), "sys/fs/cgroup/memory.max": file("max"),
		}, machine},
		"cgroup 2, limit of the parent": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/pod/app"),
			"sys/fs/cgroup/pod/memory.max": file("536870912"), "sys/fs/cgroup/pod/app/memory.max": file("max"),
		}, 512 << 20},
		"cgroup 1 in a container": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("5:cpu:/\n4:memory:/docker/abc\n1:name=systemd:/docker/abc"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("268435456"),
		}, 256 << 20},
		"cgroup 1 without a limit": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("4:memory:/"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712"),
		}, machine},
		"both": {fstest.MapFS{
			"proc/meminfo": meminfo, "proc/self/cgroup": file("4:memory:/a\n0::/a"),
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": file("536870912"),
		}, 512 << 20},
		"garbage": {fstest.MapFS{
			"proc/meminfo": file("MemTotal: lots kB"), "proc/self/cgroup": file("::::\n\n0\nx:memory"), "sys/fs/cgroup/memory.max": file("-5"),
		}, 0},
	} {
		if got := systemMemory(c.system); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestBodyLimits(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for name, c := range map[string]struct {
		setting         string
		available       int64
		maxBody, memory int64
		err             string
	}{
		"unknown memory":       {"", 0, 128 << 20, gib, ""},
		"much memory":          {"", 16 * gib, 128 << 20, gib, ""},
		"Consumption plan":     {"", gib, 128 << 20, 768 << 20, ""},
		"small container":      {"", 128 << 20, 24 << 20, 96 << 20, ""},
		"set":                  {"1000", gib, 1000, 768 << 20, ""},
		"as large as there is": {"201326592", gib, 192 << 20, 768 << 20, ""},
		"larger":               {"201326593", gib, 0, 0, "bodies of 201326592 at most"},
		"beyond the default":   {"400000000", 8 * gib, 400000000, 1600000000, ""},
		"beyond int64":         {"99999999999999999999", 0, 0, 0, "HANDLER_MAX_BODY_BYTES is 99999999999999999999"},
	} {
		if c.memory > math.MaxInt/2 {
			continue // on a machine of 32 bits
		}
		maxBody, memory, err := bodyLimits(c.setting, c.available)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
		if err == nil && (maxBody != c.maxBody || memory != c.memory) {
			t.Errorf("%s: %d of %d, want %d of %d", name, maxBody, memory, c.maxBody, c.memory)
		}
		if err == nil && (bodyCost*maxBody > memory || memory > math.MaxInt) {
			t.Errorf("%s: a body of %d does not fit into %d", name, maxBody, memory)
		}
	}
}
