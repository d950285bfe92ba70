package crm_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"example.com/durablefunctions/internal/crm"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "crm")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := crm.Open(func(string) string { return "" }, filepath.Join(dir, "crm.db")) // an app passes os.Getenv
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	ids, err := store.Records(context.Background(), "2026-11")
	if err != nil {
		log.Fatal(err)
	}
	succeeded := 0
	for _, id := range ids {
		err := store.Process(context.Background(), "job-1", id)
		if failed, ok := errors.AsType[*crm.RecordError](err); ok {
			fmt.Println(failed)
		} else if err != nil {
			log.Fatal(err)
		} else {
			succeeded++
		}
	}
	fmt.Println(succeeded, "succeeded")
	// Output:
	// record C-131 has the malformed e-mail address "clarke.jack.example.com": it has no @
	// record C-147 has the malformed e-mail address "yusuf.harris@example": its domain has no dot
	// record C-158 has no e-mail address
	// record C-173 has the malformed e-mail address "ursula.clarke@example.org, accounts@example.org": it must be a single address
	// record C-196 has the malformed e-mail address "jack quirk@example.net": it has a space in it
	// record C-219 has the malformed e-mail address "kiri..vaughan@example.com": the part before the @ is invalid
	// 114 succeeded
}

func ExampleSQLite_Import() {
	dir, err := os.MkdirTemp("", "crm")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := crm.OpenSQLite(filepath.Join(dir, "crm.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	n, err := store.Import(context.Background(), strings.NewReader(`RecordId,Batch,Name,Email
17,own,Ann Lee,ann.lee@example.com
18,own,Bob Fry,bob.fry@example.org
`))
	fmt.Println(n, err)
	_, err = store.Import(context.Background(), strings.NewReader("RecordId,Batch,Name,Email\n,own,Cy Orr,cy.orr@example.net\n"))
	fmt.Println(err)
	fmt.Println(store.Records(context.Background(), "own"))
	// Output:
	// 2 <nil>
	// import: line 2: the RecordId is empty
	// [17 18] <nil>
}
