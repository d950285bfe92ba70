package testkit

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Answers of a handler that a test writes by hand, for the local host to judge.

// AnswerJSON answers 200 with v as JSON.
func AnswerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// AnswerStatus answers with a status and a reason phrase. A handler of net/http cannot choose the phrase, so the connection is
// taken over.
func AnswerStatus(w http.ResponseWriter, status int, reason string) {
	AnswerRaw(w, fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, reason))
}

// AnswerRaw sends these bytes as the whole answer, which need not be HTTP, and closes the connection. An empty text means no
// answer.
func AnswerRaw(w http.ResponseWriter, answer string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(answer))
}
