package testkit

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// What a test's own handler answers to the local host.

// AnswerJSON is a good answer.
func AnswerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// AnswerStatus answers with a status and a reason phrase, which net/http does not let a handler choose.
func AnswerStatus(w http.ResponseWriter, status int, reason string) {
	AnswerRaw(w, fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, reason))
}

// AnswerRaw answers with bytes of any kind, none included, and closes the connection.
func AnswerRaw(w http.ResponseWriter, answer string) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(answer))
}
