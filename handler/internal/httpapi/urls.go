package httpapi

import (
	"net/url"
	"strings"
)

// ManagementURLs are the addresses for managing one instance, as the extension writes them.
type ManagementURLs struct {
	ID                 string `json:"id"`
	StatusQueryGet     string `json:"statusQueryGetUri"`
	SendEventPost      string `json:"sendEventPostUri"` // contains {eventName}
	TerminatePost      string `json:"terminatePostUri"` // contains {text} for the reason
	PurgeHistoryDelete string `json:"purgeHistoryDeleteUri"`
	RestartPost        string `json:"restartPostUri"`
	SuspendPost        string `json:"suspendPostUri"` // contains {text}
	ResumePost         string `json:"resumePostUri"`  // contains {text}
}

// NewManagementURLs makes the addresses of an instance. Base is the API's address including [Path]; query is the query string
// of each.
func NewManagementURLs(base, query, id string) ManagementURLs {
	instance := base + "/instances/" + Escape(id)
	return ManagementURLs{
		ID:                 id,
		StatusQueryGet:     instance + "?" + query,
		SendEventPost:      instance + "/raiseEvent/{eventName}?" + query,
		TerminatePost:      instance + "/terminate?reason={text}&" + query,
		PurgeHistoryDelete: instance + "?" + query,
		RestartPost:        instance + "/restart?" + query,
		SuspendPost:        instance + "/suspend?reason={text}&" + query,
		ResumePost:         instance + "/resume?reason={text}&" + query,
	}
}

var asDotnet = strings.NewReplacer("+", "%20", "%21", "!", "%28", "(", "%29", ")", "%2A", "*", "~", "%7E")

// Escape escapes a part of a URL as the extension does, with .NET's WebUtility.UrlEncode, except for blanks. The extension writes
// a plus for a blank. In a path that means a plus, so its URLs for an id with a blank lead to another instance.
func Escape(s string) string { return asDotnet.Replace(url.QueryEscape(s)) }
