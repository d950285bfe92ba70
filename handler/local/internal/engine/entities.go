package engine

import (
	"context"
	"errors"
	"sync"

	"example.com/durablefunctions/handler/internal/config"
	"example.com/durablefunctions/handler/internal/entity"
	"example.com/durablefunctions/handler/local/internal/funchost"
	"example.com/durablefunctions/handler/local/internal/output"
	"example.com/durablefunctions/handler/local/internal/taskhub"
)

// runEntities sends the operations of entities to the handler until the host stops: one batch at a time for each entity, and as
// many batches in all as host.json allows. It returns when the running batches have ended.
func (e *Engine) runEntities() {
	var running sync.WaitGroup
	defer running.Wait()
	room := make(chan struct{}, e.app.Host.MaxConcurrentEntities)
	tries := entityTries{times: map[string]int{}}
	for {
		select {
		case room <- struct{}{}:
		case <-e.invoker.Stopping.Done():
			return
		}
		w, err := e.hub.NextEntity(e.invoker.Stopping)
		if err != nil {
			return
		}
		running.Go(func() {
			defer func() { <-room }()
			e.runEntity(w, &tries)
		})
	}
}

// entityTries counts how often a batch was refused, by entity.
type entityTries struct {
	mu    sync.Mutex
	times map[string]int
}

func (t *entityTries) again(id string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times[id]++
	return t.times[id]
}

func (t *entityTries) done(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.times, id)
}

// runEntity runs a batch. If the invocation fails, all its operations have failed, as on the real host, and their callers are
// told. A batch comes again if the handler refuses it or the host stops meanwhile.
func (e *Engine) runEntity(w *taskhub.EntityWork, tries *entityTries) {
	id, _ := entity.ParseID(w.Batch.ID)
	log := e.log.With("entity", w.Batch.ID)
	ctx := context.WithoutCancel(e.invoker.Closing)
	f, ok := e.function(id.Name, config.EntityTrigger)
	if !ok {
		log.Error("operations for an entity whose function does not exist are lost", "operations", len(w.Batch.Operations))
		e.logEntity(w, e.hub.RefuseEntity(ctx, w, funchost.NoEntity(id.Name, e.app.Functions)))
		return
	}
	var result *entity.Result
	err := e.invoker.Retry(f, func(try funchost.Try) error {
		a, err := e.invoker.Post(e.invoker.Closing, f, try, funchost.EntityRequest(f, try, &w.Batch))
		if err == nil {
			err = e.invoker.SendOutputs(e.invoker.Closing, output.Source{Function: f, Instance: w.Batch.ID}, a)
		}
		if err == nil {
			result, err = a.Entity(f)
		}
		return err
	})
	failure := (*funchost.Exception)(nil)
	switch {
	case errors.As(err, &failure) && !failure.IsTimeout():
		log.Error("operations failed in the host: signals among them are lost", "reason", failure.Error())
		e.logEntity(w, e.hub.RefuseEntity(ctx, w, funchost.EntityFailure(id.Name, failure)))
	case err != nil:
		e.hub.AbandonEntity(w, tries.again(w.Batch.ID))
		return
	case result.Refused:
		e.hub.AbandonEntity(w, tries.again(w.Batch.ID))
		return
	case result.Failure == nil && len(result.Outcomes) == 0:
		log.Error("the answer to a batch has no result: the real host asks again at once, without end")
		e.hub.AbandonEntity(w, tries.again(w.Batch.ID))
		return
	default:
		e.logEntity(w, e.hub.CompleteEntity(ctx, w, result))
	}
	tries.done(w.Batch.ID)
}

func (e *Engine) logEntity(w *taskhub.EntityWork, err error) {
	if err != nil {
		e.log.Error("an entity's operations are run again", "entity", w.Batch.ID, "error", err)
	}
}
