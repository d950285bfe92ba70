// Package route matches paths with the route templates of HTTP triggers, by the rules of the Functions host, which are
// those of ASP.NET Core:
//
//	things/{id:int}/{name?}   a whole number, and a name that may be missing
//	files/{*path}             all that follows
//	{name}.{ext?}             two parameters in one segment
//	items/{page=1}            a parameter with a default
//
// Literals match in any case. A template with more literals comes before one with fewer, a constrained parameter before
// a free one.
//
//	table := route.Table{Prefix: "api"}
//	err := table.Add("Things", "things/{id:int}", []string{"GET"})
//	match, ok := table.Find("GET", "/api/things/7") // match.Function is Things, match.Params["id"] is 7
package route

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Template is a route template.
type Template struct {
	text     string
	segments []segment
	names    []string
}

// segment is what stands between two slashes: one part, or several. Two parameters are never next to each other.
type segment struct {
	parts   []part
	pattern *regexp.Regexp // of several parts: one group for each parameter
}

// part is a literal or, with a name, a parameter.
type part struct {
	literal, name      string
	optional, catchAll bool
	byDefault          *string
	constraints        []string
	checks             []func(string) bool
}

const maxTemplate = 1024 // bytes

// Parse reads a template. The error says what is wrong with it.
func Parse(text string) (*Template, error) {
	switch {
	case len(text) > maxTemplate:
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(text), maxTemplate)
	case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "~"):
		return nil, fmt.Errorf("it starts with %q: leave that out", text[:1])
	}
	t := &Template{text: text}
	for _, segmentText := range splitSegments(text) {
		s, err := parseSegment(segmentText)
		if err != nil {
			return nil, err
		}
		t.segments = append(t.segments, s)
	}
	return t, t.check()
}

// splitSegments splits at the slashes that are not within braces.
func splitSegments(text string) []string {
	var segments []string
	depth, start := 0, 0
	for i, c := range text {
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		case c == '/' && depth <= 0:
			segments = append(segments, text[start:i])
			start = i + 1
		}
	}
	return append(segments, text[start:])
}

func parseSegment(text string) (s segment, err error) {
	for rest := text; rest != ""; {
		var p part
		if p, rest, err = nextPart(rest); err != nil {
			return s, err
		}
		if n := len(s.parts); n > 0 && p.name != "" && s.parts[n-1].name != "" {
			return s, fmt.Errorf("the parameters %q and %q have nothing between them", s.parts[n-1].name, p.name)
		}
		s.parts = append(s.parts, p)
	}
	if len(s.parts) == 0 {
		return s, errors.New("it has an empty segment")
	}
	return s, s.compile()
}

// nextPart takes off the first part. A doubled brace stands for one literal brace.
func nextPart(text string) (p part, rest string, err error) {
	if strings.HasPrefix(text, "{") && !strings.HasPrefix(text, "{{") {
		end := closing(text)
		if end < 0 {
			return p, "", errors.New("a { has no }")
		}
		p, err = parseParameter(unbrace.Replace(text[1:end]))
		return p, text[end+1:], err
	}
	for i := 0; i < len(text); i++ {
		doubled := i+1 < len(text) && text[i+1] == text[i]
		switch {
		case (text[i] == '{' || text[i] == '}') && doubled:
			i++
		case text[i] == '{':
			return part{literal: unbrace.Replace(text[:i])}, text[i:], nil
		case text[i] == '}':
			return p, "", errors.New("a } has no {")
		case text[i] == '?':
			return p, "", errors.New("it holds a question mark: a route has no query")
		}
	}
	return part{literal: unbrace.Replace(text)}, "", nil
}

var unbrace = strings.NewReplacer("{{", "{", "}}", "}")

// closing finds the end of the parameter that text starts with.
func closing(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] != '}' {
			continue
		}
		if i+1 < len(text) && text[i+1] == '}' {
			i++
			continue
		}
		return i
	}
	return -1
}

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// parseParameter reads what stands between braces: *name:constraint(argument):constraint=default?
func parseParameter(text string) (p part, err error) {
	p.name, p.catchAll = strings.TrimLeft(text, "*"), strings.HasPrefix(text, "*")
	constraints := ""
	if i := strings.IndexAny(p.name, ":=?"); i >= 0 {
		p.name, constraints = p.name[:i], p.name[i:]
	}
	if !validName.MatchString(p.name) {
		return p, fmt.Errorf("%q is no parameter's name", p.name)
	}
	for strings.HasPrefix(constraints, ":") {
		end := endOfConstraint(constraints)
		p.constraints = append(p.constraints, constraints[1:end])
		check, err := constraint(constraints[1:end])
		if err != nil {
			return p, fmt.Errorf("parameter %q: %w", p.name, err)
		}
		p.checks = append(p.checks, check)
		constraints = constraints[end:]
	}
	switch value, hasDefault := strings.CutPrefix(constraints, "="); {
	case hasDefault:
		p.byDefault = &value
	case constraints == "?":
		p.optional = true
	case constraints != "":
		return p, fmt.Errorf("parameter %q: %q is not understood", p.name, constraints)
	}
	return p, nil
}

// endOfConstraint returns where the constraint that text starts with, behind a colon, ends.
func endOfConstraint(text string) int {
	depth := 0
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ':', '=', '?':
			if depth <= 0 {
				return i
			}
		}
	}
	return len(text)
}

// compile makes the pattern of a segment with several parts. The first parameters take as much as they can.
func (s *segment) compile() error {
	if len(s.parts) == 1 {
		return nil
	}
	pattern := strings.Builder{}
	for i, p := range s.parts {
		last := i == len(s.parts)-1
		switch {
		case p.catchAll || p.byDefault != nil || p.optional && !(last && s.parts[i-1].literal == "."):
			return fmt.Errorf("parameter %q shares its segment with others: it must be a plain one", p.name)
		case p.optional:
			pattern.WriteString(`(?:\.(.+))?`)
		case p.name != "":
			pattern.WriteString("(.+)")
		case p.literal == "." && i == len(s.parts)-2 && s.parts[i+1].optional: // belongs to what follows
		default:
			pattern.WriteString(regexp.QuoteMeta(p.literal))
		}
	}
	text := pattern.String()
	if s.parts[len(s.parts)-1].optional {
		text = strings.Replace(text, "(.+)", "(.+?)", 1)
	}
	var err error
	s.pattern, err = regexp.Compile("^(?is:" + text + ")$")
	return err
}

// check looks at the template as a whole.
func (t *Template) check() error {
	seen := map[string]bool{}
	open := "" // a parameter that may be missing
	for i, s := range t.segments {
		for _, p := range s.parts {
			switch {
			case open != "" && !p.optional && !p.catchAll && p.byDefault == nil:
				return fmt.Errorf("parameter %q may be missing, so nothing may follow it that must be there", open)
			case p.name == "":
				continue
			case seen[strings.ToLower(p.name)]:
				return fmt.Errorf("parameter %q is there twice", p.name)
			case p.catchAll && i < len(t.segments)-1:
				return fmt.Errorf("parameter %q takes all that follows: it must be the last", p.name)
			case p.optional && len(s.parts) == 1:
				open = p.name
			}
			seen[strings.ToLower(p.name)] = true
			t.names = append(t.names, p.name)
		}
	}
	return nil
}

// Names returns the names of the parameters.
func (t *Template) Names() []string { return t.names }

// String returns the template's text.
func (t *Template) String() string { return t.text }

// FirstLiteral returns the first segment, in lower case, if it is a literal.
func (t *Template) FirstLiteral() string { return strings.ToLower(t.segments[0].parts[0].literal) }

// key is the same for templates that match the same paths.
func (t *Template) key() string {
	var key strings.Builder
	for _, s := range t.segments {
		key.WriteByte('/')
		for _, p := range s.parts {
			if p.name == "" {
				key.WriteString(strings.ToLower(p.literal))
			} else {
				fmt.Fprintf(&key, "{%s %v %v}", strings.Join(p.constraints, ":"), p.optional || p.byDefault != nil, p.catchAll)
			}
		}
	}
	return key.String()
}

// precedence orders templates that match the same path: the lower one wins.
func (t *Template) precedence() string {
	digits := make([]byte, len(t.segments))
	for i, s := range t.segments {
		p := s.parts[0]
		switch {
		case len(s.parts) > 1:
			digits[i] = '2'
		case p.name == "":
			digits[i] = '1'
		case p.catchAll:
			digits[i] = '5'
		default:
			digits[i] = '3'
		}
		if p.name != "" && len(p.constraints) > 0 && len(s.parts) == 1 {
			digits[i]--
		}
	}
	return string(digits)
}

// match returns the parameters that the segments of a path give.
func (t *Template) match(path []string) (params map[string]string, ok bool) {
	params = map[string]string{}
	for i, s := range t.segments {
		p := s.parts[0]
		switch {
		case p.catchAll && i < len(path):
			return params, p.take(params, strings.Join(path[i:], "/"))
		case i < len(path):
			if !s.match(path[i], params) {
				return nil, false
			}
		case p.byDefault != nil:
			params[p.name] = *p.byDefault
		case !p.optional && !p.catchAll:
			return nil, false
		}
	}
	return params, len(path) <= len(t.segments)
}

func (s segment) match(text string, params map[string]string) bool {
	if s.pattern == nil {
		p := s.parts[0]
		return p.name == "" && strings.EqualFold(p.literal, text) || p.name != "" && text != "" && p.take(params, text)
	}
	groups := s.pattern.FindStringSubmatch(text)
	if groups == nil {
		return false
	}
	group := 0
	for _, p := range s.parts {
		if p.name == "" {
			continue
		}
		group++
		if groups[group] != "" && !p.take(params, groups[group]) {
			return false
		}
	}
	return true
}

// take sets the parameter if its constraints allow the value.
func (p part) take(params map[string]string, value string) bool {
	for _, check := range p.checks {
		if !check(value) {
			return false
		}
	}
	params[p.name] = value
	return true
}

// Table finds the function of a request.
type Table struct {
	Prefix string // of all routes, without slashes at its ends
	routes []entry
}

type entry struct {
	function string
	template *Template
	methods  []string // none: all
}

// Match is a function that a request is for.
type Match struct {
	Function string
	Template *Template
	Params   map[string]string // without those that the path does not give
}

// Add adds a function's route; without methods, for all of them. The error names the function whose route it is already.
func (t *Table) Add(function, template string, methods []string) error {
	parsed, err := Parse(template)
	if err != nil {
		return fmt.Errorf("the route %q is none: %w", template, err)
	}
	if first := parsed.FirstLiteral(); t.Prefix == "" && (first == "admin" || first == "runtime") {
		return fmt.Errorf("the route %q is the host's own, with an empty routePrefix: name it something else than %s", template, first)
	}
	for _, other := range t.routes {
		if other.template.key() == parsed.key() && other.shares(methods) {
			return fmt.Errorf("the route %q is the same as that of function %s (%q): change one of them, or its methods", template, other.function, other.template)
		}
	}
	t.routes = append(t.routes, entry{function, parsed, methods})
	slices.SortStableFunc(t.routes, func(a, b entry) int {
		return strings.Compare(a.template.precedence(), b.template.precedence())
	})
	return nil
}

func (e entry) shares(methods []string) bool {
	return len(e.methods) == 0 || len(methods) == 0 || slices.ContainsFunc(methods, e.takes)
}

func (e entry) takes(method string) bool {
	return len(e.methods) == 0 || slices.ContainsFunc(e.methods, func(m string) bool { return strings.EqualFold(m, method) })
}

// Find returns the function for a request with this method and escaped path.
func (t *Table) Find(method, path string) (Match, bool) {
	segments, ok := t.split(path)
	if !ok {
		return Match{}, false
	}
	for _, e := range t.routes {
		if params, ok := e.template.match(segments); ok && e.takes(method) {
			return Match{e.function, e.template, params}, true
		}
	}
	return Match{}, false
}

// split returns the segments of a path, unescaped but for slashes, without the prefix.
func (t *Table) split(path string) (segments []string, ok bool) {
	segments = strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	for i, s := range segments {
		s, err := url.PathUnescape(keepSlashes.Replace(s))
		if err != nil {
			return nil, false
		}
		segments[i] = s
	}
	if t.Prefix == "" {
		return segments, true
	}
	prefix := strings.Split(t.Prefix, "/")
	if len(segments) < len(prefix) || !slices.EqualFunc(prefix, segments[:len(prefix)], strings.EqualFold) {
		return nil, false
	}
	return segments[len(prefix):], true
}

var keepSlashes = strings.NewReplacer("%2F", "%252F", "%2f", "%252f")
