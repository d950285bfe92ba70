package conformance

import (
	"fmt"
	"maps"
	"slices"
)

// compareFields returns the fields that differ.
func compareFields(what string, got, want map[string]string) (differences []string) {
	all := maps.Clone(got)
	maps.Copy(all, want)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		g, inGot := got[name]
		w, inWant := want[name]
		switch {
		case !inGot:
			differences = append(differences, fmt.Sprintf("%s%s is missing, recorded is %s", what, name, short(w)))
		case !inWant:
			differences = append(differences, fmt.Sprintf("%s%s is %s, not recorded", what, name, short(g)))
		case g != w:
			differences = append(differences, fmt.Sprintf("%s%s is %s, recorded is %s", what, name, short(g), short(w)))
		}
	}
	return differences
}

func short(s string) string {
	if len(s) > 300 {
		return fmt.Sprintf("%.300q… (%d bytes)", s, len(s))
	}
	return fmt.Sprintf("%q", s)
}
