package httpapi

import (
	"net/url"
	"strings"
)

// ManagementURLs are the addresses by which one instance is looked after, as the extension writes them.
type ManagementURLs struct {
	ID                 string `json:"id"`
	StatusQueryGet     string `json:"statusQueryGetUri"`
	SendEventPost      string `json:"sendEventPostUri"` // with {eventName} in it
	TerminatePost      string `json:"terminatePostUri"` // with {text}, the reason, in it
	PurgeHistoryDelete string `json:"purgeHistoryDeleteUri"`
	RestartPost        string `json:"restartPostUri"`
	SuspendPost        string `json:"suspendPostUri"` // with {text}
	ResumePost         string `json:"resumePostUri"`  // with {text}
}

// NewManagementURLs makes the addresses of an instance. Base is the API's, with [Path]; query is what each address asks with.
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

// Escape escapes a part of a URL as the extension does, by .NET's WebUtility.UrlEncode, but for the blank: the extension's + means a
// plus in a path, so that its URLs of an instance with a blank in its id lead to another one.
func Escape(s string) string { return asDotnet.Replace(url.QueryEscape(s)) }
