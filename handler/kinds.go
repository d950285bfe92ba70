package handler

import (
	"fmt"
	"slices"

	"example.com/durablefunctions/handler/internal/config"
)

// kind is what a function is registered as.
type kind struct {
	name     string   // after "registered as"
	method   string   // of App
	triggers []string // that it takes, the usual one first; empty: any that is not durable
	check    func(config.Function) error
}

var (
	httpKind         = &kind{"an HTTP function", "HTTP", []string{config.HTTPTrigger}, checkHTTP}
	queueKind        = &kind{"a queue function", "Queue", []string{"queueTrigger", "serviceBusTrigger"}, checkQueue}
	timerKind        = &kind{"a timer function", "Timer", []string{config.TimerTrigger}, nil}
	blobKind         = &kind{"a blob function", "Blob", []string{"blobTrigger"}, nil}
	orchestratorKind = &kind{"an orchestrator", "Orchestrator", []string{config.OrchestrationTrigger}, nil}
	activityKind     = &kind{"an activity", "Activity", []string{config.ActivityTrigger}, nil}
	entityKind       = &kind{"an entity", "Entity", []string{config.EntityTrigger}, nil}
	triggerKind      = &kind{"a trigger function", "Trigger", nil, nil}

	kinds        = []*kind{httpKind, queueKind, timerKind, blobKind, orchestratorKind, activityKind, entityKind, triggerKind}
	durableTypes = []string{config.OrchestrationTrigger, config.ActivityTrigger, config.EntityTrigger}
)

func (k *kind) takes(trigger config.Binding) bool {
	if len(k.triggers) == 0 {
		return !slices.ContainsFunc(durableTypes, trigger.Is)
	}
	return slices.ContainsFunc(k.triggers, trigger.Is)
}

// fits says what to write if a function's folder has another trigger than the function is registered with, or lacks something.
func (k *kind) fits(on config.Function) error {
	trigger := on.Trigger()
	if k.takes(trigger) {
		if k.check == nil {
			return nil
		}
		return k.check(on)
	}
	err := fmt.Errorf("%s/function.json has a %s, but the function is registered as %s", on.Name, trigger.Type, k.name)
	if i := slices.IndexFunc(kinds, func(k *kind) bool { return k.takes(trigger) }); i >= 0 {
		err = fmt.Errorf("%w: register it with app.%s(%q, …)", err, kinds[i].method, on.Name)
	}
	if len(k.triggers) > 0 {
		err = fmt.Errorf(`%w, or write "type": %q into the trigger`, err, k.triggers[0])
	}
	return err
}
