package output

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"example.com/durablefunctions/handler/internal/config"
)

// channel is a queue or topic of a connection. Its name matches in any case.
type channel struct {
	kind, connection, queue, topic string
}

// channelOf returns the channel of a trigger or output binding; ok is false if it has none.
func (s *Sender) channelOf(b config.Binding) (c channel, ok bool) {
	c = channel{connection: s.name(b, "connection"), queue: s.name(b, "queueName")}
	switch {
	case b.Is("queue"), b.Is("queueTrigger"):
		c.kind, c.connection = "queue", cmp.Or(c.connection, "azurewebjobsstorage")
	case b.Is("serviceBus"), b.Is("serviceBusTrigger"):
		c.kind, c.connection, c.topic = "serviceBus", cmp.Or(c.connection, "azurewebjobsservicebus"), s.name(b, "topicName")
	default:
		return c, false
	}
	return c, c.queue != "" || c.topic != ""
}

func (s *Sender) name(b config.Binding, property string) string {
	return strings.ToLower(config.Resolve(b.Property(property), s.Settings))
}

// listeners returns the functions that get a message for a binding's queue or topic: one for a queue, and one for each subscription
// of a topic.
func (s *Sender) listeners(b config.Binding) (functions []string) {
	to, ok := s.channelOf(b)
	if !ok {
		return nil
	}
	taken := map[string]bool{} // by subscription; empty for a queue
	for _, name := range slices.Sorted(maps.Keys(s.App.Functions)) {
		trigger := s.App.Functions[name].Trigger()
		subscription := s.name(trigger, "subscriptionName")
		if from, _ := s.channelOf(trigger); from != to || taken[subscription] {
			continue
		}
		taken[subscription] = true
		functions = append(functions, name)
	}
	return functions
}
