package taskhub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"

	"example.com/durablefunctions/handler/internal/historyevent"
)

// Filter chooses instances. Its zero value chooses all instances.
type Filter struct {
	Statuses               []api.OrchestrationStatus // any of these; empty: any status
	CreatedFrom, CreatedTo time.Time                 // both inclusive; zero: no limit
	IDPrefix               string
	Inputs                 bool // with the instances' inputs, which may be large

	Search string // text in the id or the name; ASCII letters match in any case

	NewestFirst bool      // order by creation time instead of by id
	Before      time.Time // with NewestFirst, [Page.NextCreated] of the page before

	From     string // [Page.Next] of the page before
	PageSize int    // 0 means 100; at most 1000
}

// Page is one page of a query's result.
type Page struct {
	Instances   []Instance
	Next        string    // first id of the next page, for [Filter.From]; empty: this is the last page
	NextCreated time.Time // when that instance was created, for [Filter.Before]
}

const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// Query returns the instances that the filter chooses, page by page.
func (h *TaskHub) Query(ctx context.Context, f Filter) (Page, error) {
	size := min(f.PageSize, maxPageSize)
	if size <= 0 {
		size = defaultPageSize
	}
	input := "''"
	if f.Inputs {
		input = "input"
	}
	where, args := f.where()
	list, err := h.instances(ctx, input, where+" ORDER BY "+f.order()+" LIMIT ?", append(args, size+1)...)
	if err != nil {
		return Page{}, explain(h.path, err)
	}
	if len(list) <= size {
		return Page{Instances: list}, nil
	}
	return Page{Instances: list[:size], Next: list[size].ID, NextCreated: list[size].CreatedAt}, nil
}

func (f Filter) order() string {
	if f.NewestFirst {
		return "created DESC, id DESC"
	}
	return "id"
}

// Totals counts the chosen instances by status. It ignores the statuses and the page of the filter.
func (h *TaskHub) Totals(ctx context.Context, f Filter) (map[api.OrchestrationStatus]int, error) {
	f.Statuses, f.From, f.Before = nil, "", time.Time{}
	where, args := f.where()
	rows, err := h.read.QueryContext(ctx, "SELECT status, COUNT(*) FROM instances WHERE "+where+" GROUP BY status", args...)
	if err != nil {
		return nil, explain(h.path, err)
	}
	defer rows.Close()
	totals := map[api.OrchestrationStatus]int{}
	for rows.Next() {
		var status api.OrchestrationStatus
		var n int
		if err := rows.Scan(&status, &n); err != nil {
			return nil, err
		}
		totals[status] = n
	}
	return totals, rows.Err()
}

// where returns the filter as an SQL condition.
func (f Filter) where() (string, []any) {
	conditions, args := []string{"id >= ?"}, []any{max(f.From, f.IDPrefix)}
	if f.NewestFirst {
		conditions, args = []string{"id >= ?"}, []any{f.IDPrefix}
	}
	add := func(condition string, values ...any) {
		conditions, args = append(conditions, condition), append(args, values...)
	}
	if f.IDPrefix != "" {
		add("substr(id, 1, ?) = ?", utf8.RuneCountInString(f.IDPrefix), f.IDPrefix)
	}
	if f.NewestFirst && !f.Before.IsZero() {
		add("(created < ? OR created = ? AND id <= ?)", toNanos(f.Before), toNanos(f.Before), f.From)
	}
	if f.Search != "" {
		add("(instr(lower(id), lower(?)) > 0 OR instr(lower(name), lower(?)) > 0)", f.Search, f.Search)
	}
	if len(f.Statuses) > 0 {
		marks := strings.TrimSuffix(strings.Repeat("?, ", len(f.Statuses)), ", ")
		var statuses []any
		for _, s := range f.Statuses {
			statuses = append(statuses, s)
		}
		add("status IN ("+marks+")", statuses...)
	}
	if !f.CreatedFrom.IsZero() {
		add("created >= ?", toNanos(f.CreatedFrom))
	}
	if !f.CreatedTo.IsZero() {
		add("created <= ?", toNanos(f.CreatedTo))
	}
	return strings.Join(conditions, " AND "), args
}

// History returns the events of an instance's turns so far, as its next turn will see them. Before the first turn there are no
// events. The error is [api.ErrInstanceNotFound] if there is no such instance.
func (h *TaskHub) History(ctx context.Context, id string) ([]*backend.HistoryEvent, error) {
	if _, err := h.Get(ctx, id); err != nil {
		return nil, err
	}
	past, err := pastOf(ctx, h.read, id)
	return past, explain(h.path, err)
}

// UnfinishedFilterError reports that a filter for a purge names a status of unfinished instances.
type UnfinishedFilterError struct{ Status api.OrchestrationStatus }

func (e *UnfinishedFilterError) Error() string {
	return fmt.Sprintf("a purge by the status %s would delete instances that have not finished: name finished statuses only", e.Status)
}

// Is reports whether the target is [api.ErrNotCompleted].
func (e *UnfinishedFilterError) Is(target error) bool { return target == api.ErrNotCompleted }

// PurgeAll deletes the finished instances that the filter chooses, each as [TaskHub.Purge] does, and returns how many instances it
// deleted. When ctx ends, it returns the number so far and the context's error. A filter that names a status of unfinished
// instances is refused with an [*UnfinishedFilterError].
func (h *TaskHub) PurgeAll(ctx context.Context, f Filter) (n int, err error) {
	for _, s := range f.Statuses {
		if !historyevent.IsEnd(s) {
			return 0, &UnfinishedFilterError{Status: s}
		}
	}
	if len(f.Statuses) == 0 {
		f.Statuses = historyevent.Ends
	}
	f.Inputs, f.PageSize = false, purgedAtOnce
	for ctx.Err() == nil {
		page, err := h.Query(ctx, f)
		if err != nil {
			return n, err
		}
		deleted, err := h.purgePage(ctx, page)
		n += deleted
		if err != nil || page.Next == "" {
			return n, err
		}
		f.From = page.Next
	}
	return n, ctx.Err()
}

// purgedAtOnce is how many trees one transaction deletes. It is small so that nobody waits long for the file.
const purgedAtOnce = 50

func (h *TaskHub) purgePage(ctx context.Context, page Page) (n int, err error) {
	err = h.update(ctx, func(t tx) error {
		n = 0
		for _, i := range page.Instances {
			deleted, err := purgeFinished(t, i.ID)
			n += deleted
			// It may have been deleted with its parent, or started again.
			if err != nil && !errors.Is(err, api.ErrInstanceNotFound) && !errors.Is(err, api.ErrNotCompleted) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
