package durable

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Versions are the settings of host.json's extensions.durableTask that say which versions of an orchestration the app takes.
type Versions struct {
	Default string // defaultVersion
	Match   string // versionMatchStrategy: "None", "Strict", "CurrentOrOlder"; empty is the last
	Failure string // versionFailureStrategy: "Fail" starts what does not match and fails it; empty is "Reject"
}

// SetVersions tells the client which versions its app takes, so that StartVersion refuses others. The handler does it; a
// client without it refuses none.
func (c *Client) SetVersions(v Versions) { c.versions = &v }

// check returns an ErrBadVersion for a version that the host would never let run.
func (v *Versions) check(version *wrapperspb.StringValue) error {
	if v == nil || version == nil || strings.EqualFold(v.Failure, "Fail") || strings.EqualFold(v.Match, "None") {
		return nil
	}
	switch given := version.Value; {
	case v.Default == "" && given != "":
		return fmt.Errorf("%w: %q; host.json has no extensions.durableTask.defaultVersion, without which the host lets no version run", ErrBadVersion, given)
	case strings.EqualFold(v.Match, "Strict") && compareVersions(given, v.Default) != 0:
		return fmt.Errorf("%w: %q is not defaultVersion %q of host.json, and versionMatchStrategy is Strict", ErrBadVersion, given, v.Default)
	case compareVersions(given, v.Default) > 0:
		return fmt.Errorf("%w: %q is newer than defaultVersion %q of host.json", ErrBadVersion, given, v.Default)
	}
	return nil
}

// compareVersions compares as the host does: by numbers where both are such versions, else as text without case.
func compareVersions(a, b string) int {
	x, xok := versionNumbers(a)
	y, yok := versionNumbers(b)
	if !xok || !yok {
		return cmp.Compare(strings.ToUpper(a), strings.ToUpper(b))
	}
	for i := range x {
		if c := cmp.Compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return 0
}

// versionNumbers reads .NET's System.Version: two to four numbers. One that is left out is less than 0.
func versionNumbers(text string) (numbers [4]int64, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > len(numbers) {
		return numbers, false
	}
	for i := range numbers {
		numbers[i] = -1
		if i < len(parts) {
			n, err := strconv.ParseInt(parts[i], 10, 32)
			if err != nil || n < 0 {
				return numbers, false
			}
			numbers[i] = n
		}
	}
	return numbers, true
}
