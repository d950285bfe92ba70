package manage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/internal/historyevent"
	"example.com/durablefunctions/handler/internal/httpapi"
	"example.com/durablefunctions/handler/internal/newtonsoft"
	"example.com/durablefunctions/handler/internal/plainjson"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// HTTP is the Durable HTTP API below [httpapi.Path]. It has the same operations as the sidecar, and answers like the real host's
// extension. It asks for no key; its caller decides who may use it.
//
// Parameters that the extension does not know add details for the page. For an instance, showDetails=true adds the tags, the inputs
// and start times of activities, and the ids of finished children. For a list there are newestFirst=true, search=TEXT, and
// showTotals=true for a header with the number of instances in each status.
//
// It differs where the extension does harm: a purge deletes only finished instances and refuses a filter that it does not
// understand, a rewind continues work in flight, and an exception has no stack trace of the extension.
type HTTP struct {
	hub     *taskhub.TaskHub
	client  backend.TaskHubClient
	hubName string
	log     *slog.Logger
}

// NewHTTP returns the API of a task hub. hubName is the name that clients use for it.
func NewHTTP(hub *taskhub.TaskHub, hubName string, log *slog.Logger) *HTTP {
	return &HTTP{hub: hub, client: backend.NewTaskHubClient(hub), hubName: hubName, log: log}
}

// call is one request.
type call struct {
	*HTTP
	w     http.ResponseWriter
	r     *http.Request
	query url.Values
}

func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{HTTP: h, w: w, r: r, query: r.URL.Query()}
	handle := c.route(segments(r.URL))
	if handle == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if err := c.otherConnection(); err != nil {
		c.fail(err)
		return
	}
	if hub := c.param("taskHub"); strings.TrimSpace(hub) != "" && !strings.EqualFold(hub, h.hubName) {
		w.WriteHeader(http.StatusNotFound) // another task hub has no instances here
		return
	}
	if err := handle(); err != nil {
		c.fail(err)
	}
}

// segments returns the parts of a path below httpapi.Path; none if a part contains a slash.
func segments(u *url.URL) []string {
	list := strings.Split(strings.Trim(strings.TrimPrefix(u.EscapedPath(), httpapi.Path), "/"), "/")
	for i, s := range list {
		text, err := url.PathUnescape(s)
		if err != nil || strings.Contains(text, "/") {
			return nil
		}
		list[i] = text
	}
	return list
}

// route returns the function that answers the request; nil if there is none.
func (c *call) route(s []string) func() error {
	is := func(n int, method, controller string) bool {
		return len(s) == n && c.r.Method == method && strings.EqualFold(s[0], controller)
	}
	switch {
	case is(2, http.MethodPost, "orchestrators"):
		return func() error { return c.start(s[1], "") }
	case is(3, http.MethodPost, "orchestrators"):
		return func() error { return c.start(s[1], s[2]) }
	case is(1, http.MethodGet, "instances"):
		return c.list
	case is(1, http.MethodDelete, "instances"):
		return c.purgeMany
	case is(2, http.MethodGet, "instances"):
		return func() error { return c.status(s[1]) }
	case is(2, http.MethodDelete, "instances"):
		return func() error { return c.purge(s[1]) }
	case is(4, http.MethodPost, "instances") && strings.EqualFold(s[2], "raiseEvent"):
		return func() error { return c.raise(s[1], s[3]) }
	case is(3, http.MethodPost, "instances"):
		if operation := c.operations()[strings.ToLower(s[2])]; operation != nil {
			return func() error { return operation(s[1]) }
		}
	case len(s) > 0 && len(s) <= 3 && strings.EqualFold(s[0], "entities"):
		return c.entities(s[1:])
	case len(s) == 1 && strings.EqualFold(s[0], "makeprimary"):
		return c.makePrimary
	}
	return nil
}

func (c *call) operations() map[string]func(id string) error {
	return map[string]func(id string) error{
		"terminate": c.terminate, "suspend": c.suspend, "resume": c.resume, "rewind": c.rewind, "restart": c.restart,
		"restartwithoptions": c.restartWithOptions,
	}
}

// otherConnection refuses a request for a storage account that the app does not use.
func (c *call) otherConnection() error {
	switch name := c.param("connection"); strings.TrimSpace(name) {
	case "", "Storage", "AzureWebJobsStorage":
		return nil
	default:
		return wentWrong("System.InvalidOperationException", fmt.Sprintf("Unable to resolve the Azure Storage connection named '%s'.", name))
	}
}

// get returns an instance with its input. If there is no such instance, the error is a notFound without a body.
func (c *call) get(id string) (taskhub.Instance, error) {
	page, err := c.hub.Query(c.r.Context(), taskhub.Filter{IDPrefix: id, From: id, Inputs: true, PageSize: 1})
	if err != nil {
		return taskhub.Instance{}, err
	}
	if id == "" || len(page.Instances) == 0 || page.Instances[0].ID != id {
		return taskhub.Instance{}, answered(http.StatusNotFound)
	}
	return page.Instances[0], nil
}

// running returns an unfinished instance. For any other instance the error is the host's answer.
func (c *call) running(id string) (taskhub.Instance, error) {
	i, err := c.get(id)
	if err == nil && i.IsFinished() {
		err = answered(http.StatusGone)
	}
	return i, err
}

func (c *call) start(name, id string) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	if len(body) > 0 {
		if _, err := newtonsoft.Input(body); err != nil {
			return invalidJSON(body, err)
		}
	}
	if id == "" {
		id = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	if err := funchost.CheckInstanceID(id); err != nil {
		return wrongArgument(err)
	}
	options := []api.NewOrchestrationOptions{api.WithInstanceID(api.InstanceID(id))}
	if len(body) > 0 {
		options = append(options, api.WithRawInput(string(body)))
	}
	if _, err := c.client.ScheduleNewOrchestration(c.r.Context(), name, options...); errors.Is(err, api.ErrDuplicateInstance) {
		return c.exists(id)
	} else if err != nil {
		return err
	}
	return c.started(id)
}

// exists refuses to start an instance whose id is already in use.
func (c *call) exists(id string) error {
	i, err := c.get(id)
	if err != nil {
		return err
	}
	return &answer{status: http.StatusConflict, body: message(fmt.Sprintf("An Orchestration instance with the status %s already exists.", historyevent.StatusName(i.Status)))}
}

// maxWait is the longest time that a request may wait for an instance to end.
const maxWait = time.Hour

// started answers with the URLs of a new instance, or waits for its result if the request asks for that.
func (c *call) started(id string) error {
	timeout, waits := c.seconds("timeout")
	interval, polls := c.seconds("pollingInterval")
	switch {
	case !waits || !polls:
		return c.checkStatus(id)
	case interval > timeout:
		//lint:ignore ST1005 the host's words
		return wrongArgument(fmt.Errorf("Total timeout %v should be bigger than retry timeout %v", timeout.Seconds(), interval.Seconds()))
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(timeout + time.Minute))
	ctx, cancel := context.WithTimeout(c.r.Context(), timeout)
	defer cancel()
	i, err := c.hub.Wait(ctx, id, taskhub.Instance.IsFinished)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return c.checkStatus(id)
	case err != nil:
		return err
	case i.Status == api.RUNTIME_STATUS_COMPLETED:
		return c.send(http.StatusOK, valueOf(i.Output))
	}
	return c.status(id)
}

// checkStatus answers with the instance's URLs.
func (c *call) checkStatus(id string) error {
	query := "taskHub=" + httpapi.Escape(c.hubName) + "&connection=Storage"
	if key := c.param("code"); key != "" {
		query += "&code=" + httpapi.Escape(key)
	}
	urls := httpapi.NewManagementURLs("http://"+c.r.Host+httpapi.Path, query, id)
	body, err := plainjson.Marshal(urls)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", urls.StatusQueryGet)
	c.w.Header().Set("Retry-After", "10")
	return c.send(http.StatusAccepted, body)
}

func (c *call) status(id string) error {
	i, err := c.get(id)
	if err != nil {
		return err
	}
	if c.isFalse("showInput") {
		i.Input = ""
	}
	o := describe(i)
	if c.isTrue("showHistory") && i.Status != api.RUNTIME_STATUS_PENDING {
		events, err := c.hub.History(c.r.Context(), id)
		if err != nil {
			return err
		}
		var runs map[int32]taskhub.Run
		if c.isTrue("showDetails") {
			if runs, err = c.hub.Runs(c.r.Context(), id); err != nil {
				return err
			}
			addTags(o, events)
		}
		o.Add("historyEvents", historyJSON(events, !c.isFalse("showInput"), c.isTrue("showHistoryOutput"), runs))
	}
	status := http.StatusOK
	switch {
	case !i.IsFinished():
		status = http.StatusAccepted
		c.w.Header().Set("Location", "http://"+c.r.Host+c.r.URL.RequestURI())
		c.w.Header().Set("Retry-After", "5")
	case i.Status == api.RUNTIME_STATUS_FAILED && c.isTrue("returnInternalServerErrorOnFailure"):
		status = http.StatusInternalServerError
	}
	return c.send(status, o.Append(nil))
}

// continuation is the header with the token of the next page.
const continuation = "x-ms-continuation-token"

func (c *call) list() error {
	f := taskhub.Filter{IDPrefix: c.param("instanceIdPrefix"), Inputs: !c.isFalse("showInput"), PageSize: c.int("top"), Search: c.param("search"), NewestFirst: c.isTrue("newestFirst")}
	if err := c.beginPage(&f); err != nil {
		return err
	}
	f.Statuses, _ = c.statuses()
	f.CreatedFrom, _ = c.time("createdTimeFrom")
	f.CreatedTo, _ = c.time("createdTimeTo")
	page, err := c.hub.Query(c.r.Context(), f)
	if err != nil {
		return err
	}
	if c.isTrue("showTotals") {
		totals, err := c.hub.Totals(c.r.Context(), f)
		if err != nil {
			return err
		}
		c.w.Header().Set("X-Totals", totalsText(totals))
	}
	var list [][]byte
	for _, i := range page.Instances {
		list = append(list, describe(i).Append(nil))
	}
	next := page.Next
	if next != "" && f.NewestFirst {
		next = strconv.FormatInt(page.NextCreated.UnixNano(), 10) + " " + next
	}
	return c.sendPage(list, next)
}

// pageStart returns the id with which the requested page begins.
func (c *call) pageStart() (string, error) {
	from, err := pageStart(c.r.Header.Get(continuation))
	if err != nil {
		return "", wrongArgument(fmt.Errorf("the header %s has a value that no page came with", continuation))
	}
	return from, nil
}

// sendPage answers with one page of a list and the id with which the next page begins.
func (c *call) sendPage(list [][]byte, next string) error {
	if next != "" {
		c.w.Header()[continuation] = []string{pageToken(next)}
	}
	body := append([]byte{'['}, bytes.Join(list, []byte{','})...)
	return c.send(http.StatusOK, append(body, ']'))
}

// beginPage sets in the filter where the requested page begins.
func (c *call) beginPage(f *taskhub.Filter) error {
	from, err := c.pageStart()
	if err != nil || from == "" || !f.NewestFirst {
		f.From = from
		return err
	}
	created, id, _ := strings.Cut(from, " ")
	nanos, err := strconv.ParseInt(created, 10, 64)
	if err != nil {
		return wrongArgument(fmt.Errorf("the header %s has a value that no page came with", continuation))
	}
	f.Before, f.From = time.Unix(0, nanos), id
	return nil
}

// totalsText returns the totals as "Completed=2, Failed=1".
func totalsText(totals map[api.OrchestrationStatus]int) string {
	var list []string
	for status, n := range totals {
		list = append(list, historyevent.StatusName(status)+"="+strconv.Itoa(n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (c *call) purge(id string) error {
	n, err := c.hub.Purge(c.r.Context(), id)
	running := (*taskhub.NotFinishedError)(nil)
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return answered(http.StatusNotFound)
	case errors.As(err, &running):
		return refused(http.StatusPreconditionFailed, cannotPurge(id, running))
	case err != nil:
		return err
	}
	return c.purged(n)
}

func (c *call) purged(n int) error {
	return c.send(http.StatusOK, fmt.Appendf(nil, `{"instancesDeleted":%d}`, n))
}

// purgeMany refuses a filter that it cannot read completely, because it would then delete more than was asked for.
func (c *call) purgeMany() error {
	from, ok := c.time("createdTimeFrom")
	if !ok {
		return refused(http.StatusBadRequest, "Please provide value for 'createdTimeFrom' parameter.")
	}
	to, ok := c.time("createdTimeTo")
	if !ok && c.param("createdTimeTo") != "" {
		return wrongArgument(errors.New("createdTimeTo is not a time: write it as 2026-01-31T12:00:00Z"))
	}
	statuses, ok := c.statuses()
	if !ok {
		return wrongArgument(errors.New("runtimeStatus has an unknown name: Completed, Failed, Terminated and Canceled can be purged"))
	}
	n, err := c.hub.PurgeAll(c.r.Context(), taskhub.Filter{CreatedFrom: from, CreatedTo: to, Statuses: statuses, IDPrefix: c.param("instanceIdPrefix")})
	switch {
	case errors.Is(err, api.ErrNotCompleted):
		return wrongArgument(err)
	case err != nil:
		return err
	case n == 0:
		return answered(http.StatusNotFound)
	}
	return c.purged(n)
}

func (c *call) raise(id, name string) error {
	if _, err := c.running(id); err != nil {
		return err
	}
	if !c.sentJSON() {
		return refusedMessage("Only application/json request content is supported")
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	data, err := newtonsoft.Input(body)
	if err != nil {
		return invalidJSON(body, err)
	}
	return c.accepted(c.client.RaiseEvent(c.r.Context(), api.InstanceID(id), name, api.WithRawEventData(string(data))))
}

func (c *call) accepted(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusAccepted)
	}
	return err
}

func (c *call) terminate(id string) error {
	if _, err := c.running(id); err != nil {
		return err
	}
	return c.accepted(c.client.TerminateOrchestration(c.r.Context(), api.InstanceID(id), api.WithRawOutput(c.param("reason"))))
}

func (c *call) suspend(id string) error {
	i, err := c.running(id)
	if err == nil && i.Status == api.RUNTIME_STATUS_SUSPENDED {
		err = cannot("suspend", i)
	}
	if err != nil {
		return err
	}
	return c.accepted(c.client.SuspendOrchestration(c.r.Context(), api.InstanceID(id), c.param("reason")))
}

func (c *call) resume(id string) error {
	i, err := c.running(id)
	if err == nil && i.Status == api.RUNTIME_STATUS_RUNNING {
		err = cannot("resume", i)
	}
	if err != nil {
		return err
	}
	return c.accepted(c.client.ResumeOrchestration(c.r.Context(), api.InstanceID(id), c.param("reason")))
}

func cannot(verb string, i taskhub.Instance) error {
	return wentWrong("System.InvalidOperationException", fmt.Sprintf("Cannot %s the orchestration instance %s because instance is in the %s state.", verb, i.ID, historyevent.StatusName(i.Status)))
}

func (c *call) rewind(id string) error {
	err := c.hub.Rewind(c.r.Context(), id, c.param("reason"))
	notFailed := (*taskhub.NotFailedError)(nil)
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		// The real host sends this dollar too.
		return refused(http.StatusNotFound, fmt.Sprintf(`No orchestration with instance ID "$%s" found.`, id))
	case errors.As(err, &notFailed):
		return refused(http.StatusPreconditionFailed, fmt.Sprintf(`This orchestration has status %s, but only orchestrations in the "Failed" state can be rewound.`, historyevent.StatusName(notFailed.Status)))
	}
	return c.accepted(err)
}

func (c *call) restart(id string) error {
	again, err := c.hub.Restart(c.r.Context(), id, !c.isFalse("restartWithNewInstanceId"))
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return exception(http.StatusBadRequest, "InstanceId does not match a valid orchestration instance.", "System.ArgumentException",
			fmt.Sprintf("No instance with ID '%s' was found. (Parameter 'instanceId')", id))
	case errors.Is(err, api.ErrNotCompleted):
		return c.exists(id)
	case err != nil:
		return err
	}
	return c.started(again)
}

// restartWithOptions starts an instance again with a given id and version. Of the host's answers, only the one about a missing
// id is known.
func (c *call) restartWithOptions(id string) error {
	again := c.param("newInstanceId")
	if strings.TrimSpace(again) == "" {
		return refusedMessage("A new orchestration instance ID must be provided.")
	}
	if err := funchost.CheckInstanceID(again); err != nil {
		return refusedMessage(err.Error())
	}
	err := c.hub.RestartAs(c.r.Context(), id, again, c.param("version"))
	switch {
	case errors.Is(err, api.ErrInstanceNotFound):
		return answered(http.StatusNotFound)
	case errors.Is(err, api.ErrNotCompleted):
		return c.exists(again)
	case err != nil:
		return err
	}
	return c.started(again)
}

// body reads the request's body, up to the size that the host's client can send.
func (c *call) body() ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, durable.MaxPayload))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &answer{status: http.StatusRequestEntityTooLarge, body: message(fmt.Sprintf("the body is too large: the limit is %d bytes", tooLarge.Limit))}
	} else if err != nil {
		return nil, answered(http.StatusBadRequest)
	}
	return body, nil
}

// statuses returns the statuses that the request names; ok is false if a name is unknown.
func (c *call) statuses() (list []api.OrchestrationStatus, ok bool) {
	ok = true
	for name := range strings.SplitSeq(c.param("runtimeStatus"), ",") {
		if status, known := statusByName[name]; known {
			list = append(list, status)
		} else if name != "" {
			ok = false
		}
	}
	return list, ok
}

var statusByName = map[string]api.OrchestrationStatus{
	"Pending": api.RUNTIME_STATUS_PENDING, "Running": api.RUNTIME_STATUS_RUNNING, "Suspended": api.RUNTIME_STATUS_SUSPENDED,
	"Completed": api.RUNTIME_STATUS_COMPLETED, "Failed": api.RUNTIME_STATUS_FAILED, "Terminated": api.RUNTIME_STATUS_TERMINATED,
	"Canceled": api.RUNTIME_STATUS_CANCELED, "ContinuedAsNew": api.RUNTIME_STATUS_CONTINUED_AS_NEW,
}
