package historyevent

import (
	"strings"

	"github.com/microsoft/durabletask-go/api"
)

// StatusName returns the host's word for a status: "Running", "Completed", "ContinuedAsNew", …
func StatusName(status api.OrchestrationStatus) string {
	var name strings.Builder
	for word := range strings.SplitSeq(strings.TrimPrefix(status.String(), "ORCHESTRATION_STATUS_"), "_") {
		if word != "" {
			name.WriteString(word[:1] + strings.ToLower(word[1:]))
		}
	}
	return name.String()
}
