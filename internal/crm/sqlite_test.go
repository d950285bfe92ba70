package crm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

func newSQLite(t *testing.T, path string) *SQLite {
	t.Helper()
	store, err := OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func tempSQLite(t *testing.T) *SQLite {
	return newSQLite(t, filepath.Join(t.TempDir(), "crm.db"))
}

// stored is the part of a row of customers that the tests look at.
type stored struct {
	Batch, Name, Email, ProcessedBy, ProcessedAt string
	NormalizedName, NormalizedEmail              string
	Count                                        int
}

func read(t *testing.T, s *SQLite, id string) stored {
	t.Helper()
	db, err := s.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var c stored
	err = db.QueryRowContext(t.Context(), `
		SELECT batch, name, email, coalesce(processed_by, ''), coalesce(processed_at, ''), coalesce(normalized_name, ''),
			coalesce(normalized_email, ''), processed_count
		FROM customers WHERE id = ?`, id).
		Scan(&c.Batch, &c.Name, &c.Email, &c.ProcessedBy, &c.ProcessedAt, &c.NormalizedName, &c.NormalizedEmail, &c.Count)
	if err != nil {
		t.Fatalf("customer %s: %v", id, err)
	}
	return c
}

func count(t *testing.T, s *SQLite, query string) (n int) {
	t.Helper()
	db, err := s.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func importText(t *testing.T, s *SQLite, text string) {
	t.Helper()
	if _, err := s.Import(t.Context(), strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// Only this user may read names and addresses: in the file and in those that SQLite keeps beside it.
func TestSQLiteIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "crm.db")
	store, err := OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Process(t.Context(), "job", "C-001"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range append(files, filepath.Dir(path)) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
}

func TestSQLiteSample(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	for batch, wantFailed := range map[string]int{"2026-10": 0, "2026-11": 6} {
		ids, err := store.Records(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) != 120 {
			t.Errorf("batch %s has %d records, want 120", batch, len(ids))
		}
		failed := 0
		for _, id := range ids {
			err := store.Process(t.Context(), "job", id)
			if failure, ok := errors.AsType[*RecordError](err); ok && failure.RecordID == id {
				failed++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if failed != wantFailed {
			t.Errorf("batch %s: %d records failed, want %d", batch, failed, wantFailed)
		}
	}
}

func TestSQLiteProcess(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	importText(t, store, "RecordId,Batch,Name,Email\nX,b, Ada   Byron , Ada.Byron@Example.COM \nY,b,Bob,bob.example.com\n")

	before := time.Now().Add(-time.Millisecond)
	if err := store.Process(t.Context(), "job-1", "X"); err != nil {
		t.Fatal(err)
	}
	got := read(t, store, "X")
	at, err := time.Parse(time.RFC3339Nano, got.ProcessedAt)
	if err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("processed at %q: %v", got.ProcessedAt, err)
	}
	want := stored{
		Batch: "b", Name: " Ada   Byron ", Email: " Ada.Byron@Example.COM ", ProcessedBy: "job-1", ProcessedAt: got.ProcessedAt,
		NormalizedName: "Ada Byron", NormalizedEmail: "Ada.Byron@example.com", Count: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the first job (-want +got):\n%s", diff)
	}

	if err := store.Process(t.Context(), "job-1", "X"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read(t, store, "X")); diff != "" {
		t.Errorf("the same job again changed the customer (-want +got):\n%s", diff)
	}

	if err := store.Process(t.Context(), "job-2", "X"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, store, "X"); got.Count != 2 || got.ProcessedBy != "job-2" {
		t.Errorf("after another job: %+v", got)
	}

	// A failure is an outcome too: it stays in its job, even if its cause is gone.
	const malformed = `record Y has the malformed e-mail address "bob.example.com": it has no @`
	wantRecordError(t, store.Process(t.Context(), "job-1", "Y"), malformed)
	if got := read(t, store, "Y"); got.Count != 0 || got.ProcessedBy != "" {
		t.Errorf("a failed customer was stamped: %+v", got)
	}
	wantRecordError(t, store.Process(t.Context(), "job-1", "Z"), "record Z is not in the store")
	importText(t, store, "RecordId,Batch,Name,Email\nY,b,Bob,bob@example.com\nZ,b,Zoe,zoe@example.com\n")
	wantRecordError(t, store.Process(t.Context(), "job-1", "Y"), malformed)
	wantRecordError(t, store.Process(t.Context(), "job-1", "Z"), "record Z is not in the store")
	for _, id := range []string{"Y", "Z"} {
		if err := store.Process(t.Context(), "job-2", id); err != nil {
			t.Error(err)
		}
	}

	if err := store.Process(t.Context(), "", "X"); err == nil || !strings.Contains(err.Error(), "job id is empty") {
		t.Errorf("without a job id: %v", err)
	}
}

func wantRecordError(t *testing.T, err error, want string) {
	t.Helper()
	if failure, ok := errors.AsType[*RecordError](err); !ok || failure.Error() != want {
		t.Errorf("got the error %v, want the record error %s", err, want)
	}
}

func TestSQLiteNoBatch(t *testing.T) {
	t.Parallel()
	_, err := tempSQLite(t).Records(t.Context(), "2031-01")
	if !errors.Is(err, ErrNoBatch) || !strings.Contains(err.Error(), `"2031-01"`) {
		t.Errorf("got %v", err)
	}
}

// TestSQLiteOnce lets two stores on one new file, 20 goroutines each, process all records of a batch at the same time.
func TestSQLiteOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crm.db")
	stores := []*SQLite{newSQLite(t, path), newSQLite(t, path)}
	var group errgroup.Group
	for _, store := range stores {
		for range 20 {
			group.Go(func() error {
				ids, err := store.Records(t.Context(), "2026-11")
				if err != nil {
					return err
				}
				for _, id := range ids {
					err := store.Process(t.Context(), "job", id)
					if _, ok := errors.AsType[*RecordError](err); err != nil && !ok {
						return err
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{
		`SELECT count(*) FROM customers`:                                                240,
		`SELECT count(*) FROM customers WHERE processed_count = 1`:                      114,
		`SELECT count(*) FROM customers WHERE processed_count > 1`:                      0,
		`SELECT count(*) FROM processings WHERE job_id = 'job' AND reason = ''`:         114,
		`SELECT count(*) FROM processings WHERE job_id = 'job' AND reason LIKE 'has %'`: 6,
	} {
		if got := count(t, stores[0], query); got != want {
			t.Errorf("%s: got %d, want %d", query, got, want)
		}
	}
}

// TestSQLiteProcesses starts this test binary several times over: each process opens the same new file, imports a
// customer, and processes the same record for the same job.
func TestSQLiteProcesses(t *testing.T) {
	const variable = "CRM_TEST_SHARED_FILE"
	if path := os.Getenv(variable); path != "" {
		store := newSQLite(t, path)
		for i := range 50 {
			id := fmt.Sprintf("P-%d-%d", os.Getpid(), i)
			importText(t, store, "RecordId,Batch,Name,Email\n"+id+",own,Ann,ann@example.com\n")
			if err := store.Process(t.Context(), "job", "C-001"); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crm.db")
	var group errgroup.Group
	for range 4 {
		group.Go(func() error {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSQLiteProcesses$")
			cmd.Env = append(os.Environ(), variable+"="+path)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w:\n%s", err, out)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	store := newSQLite(t, path)
	if got := read(t, store, "C-001").Count; got != 1 {
		t.Errorf("processed %d times, want once", got)
	}
	if got, want := count(t, store, `SELECT count(*) FROM customers`), 240+4*50; got != want {
		t.Errorf("%d customers, want %d", got, want)
	}
}

func TestSQLiteSurvivesClose(t *testing.T) {
	t.Parallel()
	// Characters with a meaning in a URI or a data source name are plain characters of a path.
	path := filepath.Join(t.TempDir(), "new dir", "50% & a #1=é.db")
	first := newSQLite(t, path)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there before the first use: %v", err)
	}
	if err := first.Process(t.Context(), "job", "C-002"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Process(t.Context(), "job", "C-002"); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	second := newSQLite(t, path)
	if err := second.Process(t.Context(), "job", "C-002"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, second, "C-002").Count; got != 1 {
		t.Errorf("processed %d times, want once", got)
	}
	if got := count(t, second, `SELECT count(*) FROM customers`); got != 240 {
		t.Errorf("%d customers, want 240: the sample is loaded once", got)
	}
}

func TestSQLiteImportUpdates(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	if err := store.Process(t.Context(), "job", "C-003"); err != nil {
		t.Fatal(err)
	}
	stamped := read(t, store, "C-003")
	importText(t, store, "RecordId,Batch,Name,Email\nC-003,mine,Old,old@example.com\nC-003,mine,New,not an address\n")
	want := stored{
		Batch: "mine", Name: "New", Email: "not an address",
		ProcessedBy: "job", ProcessedAt: stamped.ProcessedAt, Count: 1,
	}
	if diff := cmp.Diff(want, read(t, store, "C-003")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ids, err := store.Records(t.Context(), "mine")
	if diff := cmp.Diff([]string{"C-003"}, ids); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestSQLiteImportAllOrNothing(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	n, err := store.Import(t.Context(), strings.NewReader("RecordId,Batch,Name,Email\nN-1,b,n,n@example.com\n,b,n,n@example.com\n"))
	if n != 0 || err == nil || err.Error() != "import: line 3: the RecordId is empty" {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := store.Records(t.Context(), "b"); !errors.Is(err, ErrNoBatch) {
		t.Errorf("a line of the bad file was imported: %v", err)
	}
}

// TestSQLiteImportHuge imports many customers while another store processes records in the same file.
func TestSQLiteImportHuge(t *testing.T) {
	t.Parallel()
	const lines = 50_000
	var text bytes.Buffer
	text.WriteString("email,name,batch,recordid,ignored\n")
	for i := range lines {
		fmt.Fprintf(&text, "h%d@example.com,Huge,huge,H-%06d,x\n", i, i)
	}
	path := filepath.Join(t.TempDir(), "crm.db")
	importing, processing := newSQLite(t, path), newSQLite(t, path)
	var work sync.WaitGroup
	work.Go(func() {
		if n, err := importing.Import(t.Context(), &text); n != lines || err != nil {
			t.Errorf("imported %d: %v", n, err)
		}
	})
	work.Go(func() {
		for i := 1; i <= 100; i++ {
			if err := processing.Process(t.Context(), "job", fmt.Sprintf("C-%03d", i)); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
	ids, err := processing.Records(t.Context(), "huge")
	if err != nil || len(ids) != lines || ids[0] != "H-000000" || ids[lines-1] != "H-049999" {
		t.Errorf("%d records: %v", len(ids), err)
	}
}

func TestSQLiteUnusableFile(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		prepare func(t *testing.T, dir string) (path string)
		want    []string
	}{
		"directory cannot be made": {
			func(t *testing.T, dir string) string {
				write(t, filepath.Join(dir, "file"), "x")
				return filepath.Join(dir, "file", "crm.db")
			},
			[]string{"set CRM_DATABASE"},
		},
		"read-only directory": {
			func(t *testing.T, dir string) string {
				readOnly(t, dir)
				return filepath.Join(dir, "crm.db")
			},
			[]string{"unable to open database file", "set CRM_DATABASE"},
		},
		"a directory": {
			func(t *testing.T, dir string) string { return dir },
			[]string{"unable to open database file", "set CRM_DATABASE"},
		},
		"not a database": {
			func(t *testing.T, dir string) string {
				path := filepath.Join(dir, "crm.db")
				write(t, path, strings.Repeat("RecordId,Batch,Name,Email\n", 1000))
				return path
			},
			[]string{"file is not a database", "restore the file"},
		},
		"damaged": {
			func(t *testing.T, dir string) string {
				path := filepath.Join(dir, "crm.db")
				store := newSQLite(t, path)
				if err := store.Process(t.Context(), "job", "C-001"); err != nil {
					t.Fatal(err)
				}
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				good, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				write(t, path, string(good[:100])+strings.Repeat("\xff", len(good)-100))
				return path
			},
			[]string{"database disk image is malformed", "restore the file"},
		},
		"another program's database": {
			func(t *testing.T, dir string) string {
				path := filepath.Join(dir, "crm.db")
				db, err := newSQLite(t, path).use(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := db.ExecContext(t.Context(), `PRAGMA user_version = 7`); err != nil {
					t.Fatal(err)
				}
				return path
			},
			[]string{"version 7", "another file"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := test.prepare(t, t.TempDir())
			store := newSQLite(t, path) // no error yet: nothing is opened
			for _, err := range []error{
				store.Process(t.Context(), "job", "C-001"),
				func() error { _, err := store.Records(t.Context(), "2026-10"); return err }(),
				func() error {
					_, err := store.Import(t.Context(), strings.NewReader("RecordId,Batch,Name,Email\n"))
					return err
				}(),
			} {
				if err == nil {
					t.Fatal("no error")
				}
				if _, ok := errors.AsType[*RecordError](err); ok {
					t.Errorf("not a failure of one record: %v", err)
				}
				for _, want := range append(test.want, path) {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q does not hold %q", err, want)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than one line: %q", err)
				}
			}
		})
	}
}

// readOnly removes the right to write to a directory. It skips the test if that does not stop this user.
func readOnly(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	if file, err := os.CreateTemp(dir, ""); err == nil {
		file.Close()
		t.Skip("this user may write everywhere")
	}
}

// TestSQLiteLocked: a file that another process keeps locked is a failure of the store and not of the record. Each call waits for
// its own time.
func TestSQLiteLocked(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	if err := store.Process(t.Context(), "job", "C-001"); err != nil {
		t.Fatal(err)
	}
	other, err := newSQLite(t, store.path).use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lock, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for i := range 10 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := store.Process(ctx, "job", fmt.Sprintf("C-%03d", 10+i))
			if _, ok := errors.AsType[*UnavailableError](err); !ok || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "locked") {
				t.Errorf("got %v", err)
			}
		})
	}
	calls.Wait()
	waiting := make(chan error)
	go func() { waiting <- store.Process(t.Context(), "job", "C-002") }()
	if err := lock.Rollback(); err != nil {
		t.Error(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

// TestSQLiteIsDurable: when a call returns, its outcome is on the disk, before the caller stores it elsewhere.
func TestSQLiteIsDurable(t *testing.T) {
	t.Parallel()
	const full = 2
	if mode := count(t, tempSQLite(t), `PRAGMA synchronous`); mode != full {
		t.Errorf("synchronous is %d, want %d", mode, full)
	}
}

// TestSQLiteOneSpoilsTheRest: records that are processed in one transaction have outcomes of their own, also when one of
// them cannot be processed.
func TestSQLiteOneSpoilsTheRest(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	db, err := store.use(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TRIGGER spoil BEFORE UPDATE ON customers WHEN new.id = 'C-002' BEGIN SELECT RAISE(ABORT, 'spoiled'); END`); err != nil {
		t.Fatal(err)
	}
	all := []*processing{{recordID: "C-001"}, {recordID: "C-002"}, {recordID: "nobody"}, {recordID: "C-003"}}
	for _, p := range all {
		p.jobID, p.done = "job", make(chan struct{})
	}
	db.processAll(t.Context(), all)
	for _, p := range all {
		if spoiled := p.err != nil; spoiled != (p.recordID == "C-002") || (p.reason != "") != (p.recordID == "nobody") {
			t.Errorf("%s: %q, %v", p.recordID, p.reason, p.err)
		}
	}
	if n := count(t, store, `SELECT count(*) FROM processings`); n != 3 {
		t.Errorf("%d records are processed, want 3", n)
	}
}

func TestSQLiteContext(t *testing.T) {
	t.Parallel()
	store := tempSQLite(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 { // on the first use, and on one after it
		if err := store.Process(ended, "job", "C-004"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := store.Process(t.Context(), "other job", "C-004"); err != nil {
			t.Error(err)
		}
	}
	if got := read(t, store, "C-004").Count; got != 1 {
		t.Errorf("processed %d times, want once", got)
	}
}

// BenchmarkSQLiteProcess processes as many records at once as the host runs activities.
func BenchmarkSQLiteProcess(b *testing.B) {
	store, err := OpenSQLite(filepath.Join(b.TempDir(), "crm.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	var calls atomic.Int64
	b.SetParallelism(10)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := calls.Add(1)
			if err := store.Process(b.Context(), fmt.Sprint(i/100), fmt.Sprintf("C-%03d", 1+i%100)); err != nil {
				b.Error(err)
			}
		}
	})
}
