// Package funchost speaks as the Functions host does: it makes the requests that the real host sends for a trigger, posts them to a
// handler, and judges the answers as the real host judges them.
//
//	t := funchost.NewTransport(handler, log, connections)
//	defer t.Close()
//	body, err := funchost.ActivityRequest(function, instanceID, `{"RecordId":"7"}`)
//	…
//	reply, err := t.Post(ctx, function.Name, body)
//	…
//	answer, err := funchost.ReadAnswer(function, reply) // err is an *Exception, in .NET's words
//	result, err := answer.Result(function)
//
// Everything here follows recordings of the real host, which tests/conformance plays. The package stores nothing and does not know
// the engine.
package funchost
