package local

import (
	"context"
	"net"
	"path/filepath"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/trigger"
)

// startTriggers starts the timers and the search for blobs.
func (h *Host) startTriggers() error {
	blobs := &trigger.Blobs{Dir: filepath.Join(h.dataDir, "blobs"), Receipts: filepath.Join(h.dataDir, "blobs.json"), Log: h.log, Found: h.foundBlob}
	for _, f := range h.app.Functions {
		if f.Trigger().Is(config.BlobTrigger) {
			blobs.Functions = append(blobs.Functions, f)
		}
		if f.Schedule == nil {
			continue
		}
		timer := &trigger.Timer{Function: f, File: filepath.Join(h.dataDir, "timers", f.Name+".json"), Fire: func(due trigger.Due) { h.fire(f, due) }}
		h.triggers.Go(func() { timer.Run(h.accepting) })
	}
	if len(blobs.Functions) == 0 {
		return nil
	}
	if err := blobs.Prepare(); err != nil {
		return err
	}
	h.triggers.Go(func() { blobs.Run(h.accepting) })
	return nil
}

func (h *Host) fire(f config.Function, due trigger.Due) {
	_, _, err := h.invoker.Run(h.ctx, f, func(try funchost.Try, client funchost.Client) []byte {
		t := funchost.Timer{IsPastDue: due.IsPastDue, Status: (*funchost.ScheduleStatus)(due.Status)}
		return funchost.TimerRequest(f, try, t, client)
	})
	if err != nil && h.ctx.Err() == nil {
		h.log.Error("a timer's function failed", "function", f.Name, "error", err)
	}
}

// foundBlob puts a blob into the inbox, which delivers it again if its function fails.
func (h *Host) foundBlob(ctx context.Context, function, name string, content []byte) error {
	return h.inbox.Put(ctx, function, Message{ID: name, Body: content})
}

// hint says how a function is called here: by its URL, its schedule, its folder, or with deliver.
func (h *Host) hint(f config.Function) string {
	switch t := f.Trigger(); {
	case t.Is(config.HTTPTrigger):
		base := h.url
		if base == "" {
			base = "http://" + net.JoinHostPort("localhost", "<port>")
		}
		return base + h.app.Host.Path(f)
	case t.Is(config.TimerTrigger):
		return t.Property("schedule")
	case t.Is(config.BlobTrigger):
		container, _ := t.BlobPath()
		return filepath.Join(h.dataDir, "blobs", container)
	case funchost.IsDurableTrigger(t), funchost.IsMessageTrigger(t):
		return ""
	}
	return "nothing triggers it here: deliver --function " + f.Name + " FILE does"
}
