package route

import (
	"maps"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ template, path, want string }{
		{"things/{id:int}/{name?}", "/api/things/7/bob", "id=7 name=bob"},
		{"things/{id:int}/{name?}", "/api/things/7", "id=7"},
		{"things/{id:int}/{name?}", "/API/Things/7/", "id=7"},
		{"things/{id:int}/{name?}", "/api/things/x", "none"},
		{"things/{id:int}/{name?}", "/api/things/7/bob/more", "none"},
		{"things/{id:int}/{name?}", "/other/things/7", "none"},
		{"things/{id}", "/api/things//", "none"},
		{"things/{id}", "/api/things/a%2Fb", "id=a%2Fb"},
		{"things/{id}", "/api/things/%C3%A9%20x", "id=é x"},
		{"things/{id}", "/api/things/%zz", "none"},
		{"files/{*path}", "/api/files/a/b/c", "path=a/b/c"},
		{"files/{**path}", "/api/files", ""},
		{"items/{page=1}", "/api/items", "page=1"},
		{"items/{page=1}", "/api/items/2", "page=2"},
		{"{file}.{ext?}", "/api/a.b.txt", "file=a ext=b.txt"},
		{"{file}.{ext?}", "/api/a", "file=a"},
		{"{a}-{b}", "/api/x-y-z", "a=x-y b=z"},
		{"v{n:int}", "/api/v7", "n=7"},
		{"v{n:int}", "/api/vx", "none"},
		{"n/{n:range(1,9)}", "/api/n/9", "n=9"},
		{"n/{n:range(1,9)}", "/api/n/10", "none"},
		{"n/{n:length(2)}", "/api/n/ab", "n=ab"},
		{"n/{n:minlength(2):alpha}", "/api/n/a1", "none"},
		{`n/{n:regex(^\d{{2}}$)}`, "/api/n/12", "n=12"},
		{`n/{n:regex(^\d{{2}}$)}`, "/api/n/123", "none"},
		{"n/{n:guid}", "/api/n/0274f50e-0572-4c47-92d9-bb8d6a0ec1dc", "n=0274f50e-0572-4c47-92d9-bb8d6a0ec1dc"},
		{"{{x}}", "/api/{x}", ""},
	} {
		t.Run(c.template+" "+c.path, func(t *testing.T) {
			t.Parallel()
			table := Table{Prefix: "api"}
			if err := table.Add("F", c.template, nil); err != nil {
				t.Fatal(err)
			}
			match, ok := table.Find("GET", c.path)
			if c.want == "none" {
				if ok {
					t.Errorf("it matches, with %v", match.Params)
				}
				return
			}
			want := map[string]string{}
			for _, pair := range strings.Split(c.want, " ") {
				if name, value, ok := strings.Cut(pair, "="); ok {
					want[name] = value
				}
			}
			if c.want == "id=é x" {
				want = map[string]string{"id": "é x"}
			}
			if !ok || !maps.Equal(match.Params, want) {
				t.Errorf("params %v (matches: %v), want %v", match.Params, ok, want)
			}
		})
	}
}

// TestPrecedence: the more specific template wins, whatever the order in which templates were added.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	table := Table{}
	for _, template := range []string{"{*all}", "things/{id}", "things/{id:int}", "things/new", "{x}/{y}"} {
		if err := table.Add(template, template, nil); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"/things/new": "things/new", "/things/7": "things/{id:int}", "/things/x": "things/{id}", "/a/b": "{x}/{y}", "/a/b/c": "{*all}", "/": "{*all}",
	} {
		if match, _ := table.Find("GET", path); match.Function != want {
			t.Errorf("%s goes to %q, want %q", path, match.Function, want)
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	table := Table{Prefix: "api"}
	for function, methods := range map[string][]string{"Read": {"get", "HEAD"}, "Write": {"POST"}} {
		if err := table.Add(function, "things/{id}", methods); err != nil {
			t.Fatal(err)
		}
	}
	for method, want := range map[string]string{"GET": "Read", "POST": "Write", "DELETE": ""} {
		if match, _ := table.Find(method, "/api/things/7"); match.Function != want {
			t.Errorf("%s goes to %q, want %q", method, match.Function, want)
		}
	}
	if err := table.Add("Again", "THINGS/{other}", []string{"PUT", "post"}); err == nil || !strings.Contains(err.Error(), "Write") {
		t.Errorf("a second route for POST: error %v, want one that names Write", err)
	}
}

func TestBadTemplates(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"/x":             "starts with",
		"~/x":            "starts with",
		"a//b":           "empty segment",
		"a/{id":          "{ has no }",
		"a/id}":          "} has no {",
		"a?b=1":          "question mark",
		"{a}{b}":         "nothing between",
		"{a}/{A}":        "twice",
		"{*a}/b":         "must be the last",
		"{a?}/b":         "may be missing",
		"{a:nope}":       "knows none",
		"{a:range(9,1)}": "arguments",
		"{a:min(1,2)}":   "arguments",
		"{a:range(1}":    "without a )",
		"{1a}":           "no parameter's name",
		"x{a=1}":         "plain one",
		"runtime/x":      "host's own",
	} {
		if err := new(Table).Add("F", template, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", template, err, want)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add("things/{id:int}/{name?}", "/api/things/7/bob")
	f.Add("{file}.{ext?}", "/api/a.b")
	f.Add(`{n:regex(^\d{{2}}$)}`, "/api/%31%32")
	f.Add("{*all}", "//")
	f.Fuzz(func(t *testing.T, template, path string) {
		table := Table{Prefix: "api"}
		if err := table.Add("F", template, nil); err != nil {
			return
		}
		match, ok := table.Find("GET", path)
		if !ok {
			return
		}
		for name := range match.Params {
			if !strings.Contains(template, name) {
				t.Errorf("%q gives a parameter %q", template, name)
			}
		}
	})
}
