package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.com/durablefunctions/handler/internal/route"
)

// Binding types of HTTP.
const (
	HTTPTrigger = "httpTrigger"
	HTTPOutput  = "http"
)

// HTTPOutput returns the name of the function's http output, "" if it has none.
func (f Function) HTTPOutput() string {
	for _, b := range f.Bindings {
		if b.Is(HTTPOutput) && b.Direction != "in" {
			return b.Name
		}
	}
	return ""
}

// Forwards says whether the host forwards the function's requests unchanged instead of in an envelope. It does so for
// functions whose only bindings are an httpTrigger and an http output.
func (h Host) Forwards(f Function) bool {
	return h.ForwardHTTP && f.Trigger().Is(HTTPTrigger) && f.HTTPOutput() != "" && len(f.Bindings) == 2
}

// addRoute adds the route of a function with an httpTrigger.
func addRoute(routes *route.Table, f Function) error {
	b := f.Trigger()
	if !b.Is(HTTPTrigger) {
		return nil
	}
	levels := []string{"", "anonymous", "function", "admin", "system", "user"}
	if level := b.Property("authLevel"); !slices.Contains(levels, strings.ToLower(level)) {
		return f.atTrigger(fmt.Errorf(`the authLevel of %q is %q: it must be "anonymous", "function" or "admin"`, b.Name, level), "authLevel")
	}
	methods, err := b.Methods()
	if err != nil {
		return f.atTrigger(fmt.Errorf("the methods of %q: %w", b.Name, err), "methods")
	}
	return f.atTrigger(routes.Add(f.Name, f.route(), methods), "route")
}

// route is the template of a function with an httpTrigger.
func (f Function) route() string { return cmp.Or(f.Trigger().Property("route"), f.Name) }

// Path returns the path of a function with an httpTrigger, with its parameters in braces.
func (h Host) Path(f Function) string {
	return strings.TrimSuffix("/"+h.RoutePrefix, "/") + "/" + f.route()
}

// Methods returns the methods of an httpTrigger as they are written; none: all.
func (b Binding) Methods() (methods []string, err error) {
	value := lookup(b.Properties, "methods")
	if value == nil {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, errors.New(`they must be a list, such as ["get", "post"]`)
	}
	for _, element := range list {
		method, ok := element.(string)
		if !ok || method == "" || strings.Trim(strings.ToUpper(method), "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return nil, fmt.Errorf("%v is no HTTP method", element)
		}
		methods = append(methods, method)
	}
	return methods, nil
}

// routePrefix returns extensions.http.routePrefix.
func (s settings) routePrefix() string {
	prefix, ok := s["extensions:http:routeprefix"]
	if !ok {
		prefix = "api"
	}
	return strings.Trim(prefix, "/")
}

func newRoutes(h Host) *route.Table { return &route.Table{Prefix: h.RoutePrefix} }
