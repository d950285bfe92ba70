// Package durable is what function code calls: typed activities and orchestrators, the fan-out, waiting for several
// tasks, retries, timers, external events, logs that keep quiet in a replay, and the durable client.
//
// An activity is an ordinary function, an orchestrator one over durabletask-go's own context:
//
//	const SayHello = durable.ActivityName[string, string]("SayHello")
//
//	func sayHello(ctx context.Context, city string) (string, error) {
//		return "Hello, " + city + "!", nil
//	}
//
//	func Hello(ctx *task.OrchestrationContext, cities []string) ([]string, error) {
//		var tasks []*durable.Task[string]
//		for _, city := range cities {
//			tasks = append(tasks, SayHello.Call(ctx, city))
//		}
//		return durable.WhenAll(tasks...)
//	}
//
// They are registered in main, under the names of their folders:
//
//	app.Activity("SayHello", durable.Activity(sayHello))
//	app.Orchestrator("Hello", durable.Orchestrator(Hello))
//
// # What an orchestrator may do
//
// It is run again from its beginning, over the history of what happened: at every turn while the history is short, and at any
// turn of a long one. So it must take the same course every time: no clock (ctx.CurrentTimeUtc is the time), no random numbers
// (NewGUID), no environment, no I/O, no goroutines, no iteration over maps that schedules anything. What shapes its course comes
// in its input. A turn that schedules something else than the one before is answered with a failed orchestration that says what
// differs. A panic of the value task.ErrTaskBlocked is how the SDK leaves an orchestrator that has to wait: a deferred function
// runs then, too, and must not recover it. A long orchestration may wait in memory instead, for a minute and more: hold nothing
// meanwhile that others wait for, such as a mutex.
//
// The tasks of this package and those of the SDK can be mixed, with one exception: wait for the events of one name
// either with WaitForEvent or with the SDK's WaitForSingleEvent, not with both. A timer of the SDK of more than seven days
// fails the orchestration; Timer makes several of a long one.
//
// A call of this package from a goroutine that the orchestrator has started ends that goroutine before it touches anything, and
// fails the orchestration with a line that says so. A call on the SDK's own context (ctx.CallActivity …) cannot be checked:
// it writes to a map, and when two goroutines do so at the same time Go ends the process, and with it every other invocation.
//
// A recursion without end fails nothing that Go could recover from: it ends the process at a stack of 64 MiB, with a trace
// that names it.
//
// # What the host does to an orchestration
//
// Suspend stops the orchestration and not its sub-orchestrations, which go on, nor its activities; what they return waits
// until it is resumed. Terminate reaches the sub-orchestrations, at their next turn; activities that run come to their end.
// A parent is not told when a sub-orchestration ends as CANCELED, and waits for ever: no code of this package ends one so,
// other SDKs can; WithTimeout bounds the wait.
//
// # Errors
//
// The error of a task is a *TaskError with what the function said. An activity that has more to say returns WithDetails.
// What a sub-orchestration returns as its error arrives as its message.
//
// # A new version
//
// Orchestrations that are in flight when a new version is published go on in it: their next turn runs the new code over
// the history that the old code made. So while there are any, an orchestrator
//
//   - must not schedule its activities, sub-orchestrations, timers and waits for events in another order, leave one out,
//     add one before the end of what a history may hold, or call another name;
//   - must not drop, or give another meaning to, a field of its input, of an activity's result or of a sub-orchestration's
//     result, nor may a function that histories name be removed;
//   - may get new optional fields in its input, whose absence means the course as it was: so a new course is taken by what
//     is started from now on;
//   - may change its custom status, its logs and the contents of its outputs;
//   - may call activities whose code has changed, as long as they understand the old inputs.
//
// A setting that shapes the course belongs into the input. What else is to change asks for the Version that the
// orchestration was started in, which is defaultVersion of host.json and stays with it to its end:
//
//	if durable.Version(ctx) < "2" {
//		return oldCourse(ctx, in)
//	}
//
// or goes into an orchestrator of another name, beside the old one until that has none in flight, or is published when
// nothing is running. The host compares versions number by number, Go's < text by text: keep them of one length, "01", "02".
//
// Keep histories of each version as files and replay them in a test: see MyOrchestration/histories_test.go.
//
// # The client
//
// A trigger function with a durableClient binding starts, finds and steers orchestrations:
//
//	client, err := in.DurableClient("starter")
//	id, err := client.Start(ctx, "Hello", "", []string{"Tokyo"})
//	hello, err := client.Wait(ctx, id)
//	for instance, err := range client.List(ctx, durable.Filter{IDPrefix: "order-"}) { … }
//
// [CheckStatusResponse] answers an HTTP caller with the URLs by which it looks after an instance, [WaitOrCheckStatus] with
// the result if that comes soon.
//
// # What the host does to values
//
// Inputs and results are JSON. Values that the host would alter on their way to and from an activity (times with an
// offset, keys that start with $, numbers that a double does not hold, deep nesting …) travel inside a string behind a
// marker, which is taken off before your code sees them; a function in another language on the other side sees that
// string. Everything else travels as plain JSON. Nothing alters the inputs and outputs of orchestrations, their custom
// status, or events.
package durable
