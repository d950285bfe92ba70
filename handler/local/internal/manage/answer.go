package manage

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/durablefunctions/handler/internal/newtonsoft"
)

// answer is an error that holds the host's answer to a request. Without a body the answer is only the status.
type answer struct {
	status int
	body   []byte
}

func (a *answer) Error() string { return fmt.Sprintf("answered %d: %s", a.status, a.body) }

func answered(status int) error { return &answer{status: status} }

// refused returns an answer whose body is a JSON string.
func refused(status int, text string) error {
	return &answer{status: status, body: newtonsoft.Once(text)}
}

// refusedMessage returns an answer that says in one text what is wrong with the request.
func refusedMessage(text string) error {
	return &answer{status: http.StatusBadRequest, body: message(text)}
}

// exception returns an answer that shows a .NET exception. The host also adds a stack trace of its own sources.
func exception(status int, what, kind, text string) error {
	o := &newtonsoft.Object{}
	o.AddText("Message", what)
	o.AddText("ExceptionMessage", text)
	o.AddText("ExceptionType", kind)
	o.Add("StackTrace", []byte("null"))
	return &answer{status: status, body: o.Append(nil)}
}

func wentWrong(kind, text string) error {
	return exception(http.StatusInternalServerError, "Something went wrong while processing your request", kind, text)
}

func wrongArgument(err error) error {
	return exception(http.StatusBadRequest, "One or more of the arguments submitted is incorrect", "System.ArgumentException", err.Error())
}

func invalidJSON(body []byte, err error) error {
	kind, text := parseError(body, err)
	return exception(http.StatusBadRequest, "Invalid JSON content", kind, text)
}

// parseError returns what the host's parser says of a text that is not JSON, where that is known: if the text does not begin
// like JSON.
func parseError(body []byte, err error) (kind, text string) {
	kind, text = "Newtonsoft.Json.JsonReaderException", err.Error()
	if refusal := (*newtonsoft.Error)(nil); errors.As(err, &refusal) {
		kind, text = refusal.Type, refusal.Message
	}
	if begin := strings.TrimSpace(string(body)); begin != "" && !strings.ContainsRune(`{["-0123456789`, rune(begin[0])) {
		first, _ := utf8.DecodeRuneInString(begin)
		text = fmt.Sprintf("Unexpected character encountered while parsing value: %c. Path '', line 0, position 0.", first)
	}
	return kind, text
}

func message(text string) []byte {
	o := &newtonsoft.Object{}
	o.AddText("Message", text)
	return o.Append(nil)
}

// fail answers with an error.
func (c *call) fail(err error) {
	a := (*answer)(nil)
	if !errors.As(err, &a) {
		if c.r.Context().Err() != nil {
			return // nobody waits for the answer
		}
		c.log.Error("a call of the durable HTTP API failed", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
		errors.As(wentWrong("System.Exception", err.Error()), &a)
	}
	if a.body == nil {
		c.w.WriteHeader(a.status)
		return
	}
	_ = c.send(a.status, a.body)
}

// send writes JSON. Its error is always nil: nothing can be done for a caller that is gone.
func (c *call) send(status int, body []byte) error {
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
	return nil
}

// param finds a query parameter by name, in any case. It joins the values of a repeated name with commas, as .NET does.
func (c *call) param(name string) string {
	var values []string
	for key, list := range c.query {
		if strings.EqualFold(key, name) {
			values = append(values, list...)
		}
	}
	return strings.Join(values, ",")
}

// sentJSON reports whether the request declares its body as JSON.
func (c *call) sentJSON() bool {
	media, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}

func (c *call) isTrue(name string) bool {
	return strings.EqualFold(strings.TrimSpace(c.param(name)), "true")
}
func (c *call) isFalse(name string) bool {
	return strings.EqualFold(strings.TrimSpace(c.param(name)), "false")
}

// int returns a query parameter as a number; 0 if it is not a number.
func (c *call) int(name string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(c.param(name)))
	return n
}

func (c *call) seconds(name string) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(c.param(name)), 64)
	if err != nil || math.IsNaN(n) || n < 0 {
		return 0, false
	}
	return time.Duration(min(n, maxWait.Seconds()) * float64(time.Second)), true
}

// timeLayouts are common ways to write a time that .NET understands. A time without a zone is in UTC.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly, "01/02/2006", "01/02/2006 15:04:05"}

func (c *call) time(name string) (time.Time, bool) {
	text := strings.TrimSpace(c.param(name))
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, strings.ReplaceAll(text, " +", "+")); err == nil {
			return t, true
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, strings.ReplaceAll(text, " ", "+")); err == nil { // an unescaped + arrives as a space
		return t, true
	}
	return time.Time{}, false
}
