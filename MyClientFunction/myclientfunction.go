// Package myclientfunction is the client function MyClientFunction: a queue message starts MyOrchestration.
//
// Service Bus delivers a message at least once. So the orchestration's instance id is made from the message's id and
// its text (see InstanceID), and the start is one call that the host carries out once for an id, however many workers make
// it: an instance that runs or has completed counts as started, one that failed or was terminated starts anew.
//
// # Settings
//
// They are read here and travel in the orchestration's input, so that a change does not touch orchestrations in flight.
//
//	AlertEmailTo                 who is mailed about failures: addresses, with ; or , between them; empty: nobody
//	SendGridKey                  without it, nobody is mailed under the Functions host
//	AlertEmailFrom               the mail's sender (default no-reply@mycompany.co.nz)
//	BATCH_SIZE                   records in one orchestration (default 100); more are split up into sub-orchestrations
//	PROCESS_ATTEMPTS             attempts at a record whose activity was lost (default 3)
//	PROCESS_RETRY_INTERVAL       before the second attempt, doubled for each one after (default 5s)
//	STORE_ATTEMPTS               attempts at a record whose store is down, PROCESS_RETRY_INTERVAL apart, doubled up to two
//	                             minutes (default 10: ten minutes and more)
//	STORE_WAIT                   how long this function waits for a store that is down (default: as long as it may run)
//	MAIL_ATTEMPTS                attempts at the mail (default 3)
//	MAIL_RETRY_INTERVAL          as above (default 10s)
//	MESSAGE_MAX_BYTES            largest message (default 262144; Service Bus Premium allows more)
package myclientfunction

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	myorchestration "example.com/durablefunctions/MyOrchestration"
	"example.com/durablefunctions/handler"
	"example.com/durablefunctions/handler/durable"
	"example.com/durablefunctions/handler/payload"
	"example.com/durablefunctions/internal/crm"
	"example.com/durablefunctions/internal/text"
)

// Records finds the records of a batch. Put your own source here; crm.Store is the one of this app.
type Records interface {
	Records(ctx context.Context, batch string) ([]string, error)
}

// defaultBatchSize is where the history of a batch costs the host least; see the table in docs/performance.md.
const defaultBatchSize = 100

// Settings are what the app settings say.
type Settings struct {
	Input           myorchestration.Input // all but the records
	MaxMessageBytes int
	StoreWait       time.Duration // for a store that is down; no longer than the invocation may take
}

// ReadSettings reads the app settings. The error names the one that is wrong.
func ReadSettings(getenv func(string) string) (Settings, error) {
	s := Settings{MaxMessageBytes: 256 << 10, StoreWait: 24 * time.Hour}
	to, err := myorchestration.Recipients(getenv("AlertEmailTo"))
	if err != nil {
		return s, fmt.Errorf("setting AlertEmailTo: %w", err)
	}
	s.Input.AlertEmailTo = strings.Join(to, ";")
	// Without the key, the Functions host fails each mail; the local host writes it to a file.
	key := getenv("SendGridKey")
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }) {
		return s, errors.New("setting SendGridKey has a blank or a line break in it, with which no mail can be sent: take it out")
	}
	s.Input.NoSendGridKey = getenv(handler.PortVariable) != "" && key == ""
	s.Input.AlertEmailFrom = getenv("AlertEmailFrom")
	if _, err := mail.ParseAddress(s.Input.AlertEmailFrom); err != nil && s.Input.AlertEmailFrom != "" {
		return s, fmt.Errorf("setting AlertEmailFrom: %q is not an e-mail address: write alerts@example.com", s.Input.AlertEmailFrom)
	}
	r := reader{getenv: getenv}
	r.number("MESSAGE_MAX_BYTES", 1, &s.MaxMessageBytes)
	s.Input.BatchSize = defaultBatchSize
	r.number("BATCH_SIZE", 2, &s.Input.BatchSize)
	r.number("PROCESS_ATTEMPTS", 1, &s.Input.Attempts)
	r.number("STORE_ATTEMPTS", 1, &s.Input.StoreAttempts)
	r.number("MAIL_ATTEMPTS", 1, &s.Input.MailAttempts)
	r.seconds("PROCESS_RETRY_INTERVAL", &s.Input.RetryIntervalSeconds)
	r.seconds("MAIL_RETRY_INTERVAL", &s.Input.MailRetryIntervalSeconds)
	wait := s.StoreWait.Seconds()
	r.seconds("STORE_WAIT", &wait)
	s.StoreWait = time.Duration(wait * float64(time.Second))
	return s, r.err
}

// reader reads settings that may be absent, up to the first that is wrong.
type reader struct {
	getenv func(string) string
	err    error
}

func (r *reader) number(name string, least int, v *int) {
	text := r.getenv(name)
	if text == "" || r.err != nil {
		return
	}
	if n, err := strconv.Atoi(text); err == nil && n >= least {
		*v = n
	} else {
		r.err = fmt.Errorf("setting %s is %q: it must be a whole number, at least %d", name, text, least)
	}
}

func (r *reader) seconds(name string, v *float64) {
	text := r.getenv(name)
	if text == "" || r.err != nil {
		return
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		*v = d.Seconds()
	} else {
		r.err = fmt.Errorf("setting %s is %q: it must be a duration above 0, such as 5s", name, text)
	}
}

// maxLogged is how many characters of a message are logged.
const maxLogged = 1000

// New returns the function.
func New(records Records, settings Settings) handler.TriggerFunc {
	return func(ctx context.Context, in *handler.Invocation) error {
		log := durable.Log(ctx)
		body, err := decode(in.Bytes("myQueueItem"))
		if err != nil {
			return err
		}
		log.Info("Started MyClientFunction;Go Queue trigger function received: " + text.Beginning(body, maxLogged))

		message, err := Parse(body, settings.MaxMessageBytes)
		if err != nil {
			return err
		}
		ids, err := resolve(ctx, records, message, settings.StoreWait)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			log.Info("The message names no records: nothing is started.")
			return nil
		}
		input := settings.Input
		input.RecordIds = ids
		compressed, err := input.Compress()
		if err != nil {
			return err
		}
		if n := payload.UTF16Len(compressed); n > 64<<10 {
			log.Warn("The orchestration's input is over 64 KB: the Durable Task extension moves it to a blob.", "bytes", n)
		}
		client, err := in.DurableClient("starter")
		if err != nil {
			return err
		}
		id := InstanceID(body, in.Metadata)
		started, err := client.StartOnce(ctx, string(myorchestration.Name), id, compressed)
		if err != nil {
			return err
		}
		if !started {
			log.Info("Orchestration was started by an earlier delivery of this message.", "instance", id)
			return nil
		}
		log.Info("Started orchestration.", "instance", id, "records", len(ids))
		return nil
	}
}

// resolve finds the records of a message. While the store is down it waits, as long as the invocation may take: Service Bus
// would deliver the failed message ten times within a second, and then put it into the dead-letter queue.
func resolve(ctx context.Context, records Records, m Message, patience time.Duration) ([]string, error) {
	if m.Batch == "" {
		return m.RecordIds, nil
	}
	giveUp := time.Now().Add(patience)
	if deadline, ok := ctx.Deadline(); ok && deadline.Add(-reserve).Before(giveUp) {
		giveUp = deadline.Add(-reserve)
	}
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		ids, err := records.Records(ctx, m.Batch)
		if _, down := errors.AsType[*crm.UnavailableError](err); !down {
			return unique(ids), err
		}
		if time.Until(giveUp) < wait {
			return nil, err
		}
		if wait == firstWait {
			durable.Log(ctx).Warn("The record store is down: waiting for it.", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

// The waits for a store that is down, and what is left of the invocation's time for the start of the orchestration.
const (
	firstWait = time.Second
	maxWait   = 15 * time.Second
	reserve   = 10 * time.Second
)

// InstanceID returns the id of the orchestration that a message starts, made from the message's identity and its text:
// the same when it is delivered again, and another for the same text in another message. The identity is the MessageId; a
// Service Bus message without one has its SequenceNumber and the time of its arrival, one of a storage queue its Id. Only
// if the host gives none of them, the id is random.
//
// metadata is the host's. The trigger's dataType is binary, with which the host copies nothing of the message over it.
func InstanceID(text string, metadata func(name string) (string, bool)) string {
	identity, _ := metadata("MessageId")
	if number, ok := metadata("SequenceNumber"); ok && identity == "" {
		enqueued, _ := metadata("EnqueuedTimeUtc")
		identity = number + " " + enqueued
	}
	if identity == "" {
		identity, _ = metadata("Id")
	}
	if identity == "" {
		return uuid.NewString()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(identity), identity, text))
	return hex.EncodeToString(sum[:16])
}
