package crm

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxImport bounds a CSV file, in bytes: it is held in memory until all of it is checked.
const maxImport = 256 << 20

// sample is what a new database starts with: made-up customers, all valid in batch 2026-10, a few not in 2026-11.
//
//go:embed sample.csv
var sample []byte

// customer is one line of a CSV file, as it came.
type customer struct{ id, batch, name, email string }

// columns are those that a CSV file must have; others are ignored.
var columns = []string{"RecordId", "Batch", "Name", "Email"}

// readCustomers reads all of a CSV file of at most limit bytes. E-mail addresses are not checked: that is the
// processing's work.
func readCustomers(r io.Reader, limit int64) ([]customer, error) {
	limited := &io.LimitedReader{R: r, N: limit + 1}
	customers, err := readCSV(limited)
	if limited.N <= 0 { // first, for a file that was cut there seldom parses
		return nil, fmt.Errorf("the file is larger than %d bytes; import it in parts", limit)
	}
	return customers, err
}

func readCSV(r io.Reader) ([]customer, error) {
	in := csv.NewReader(skipBOM(r))
	in.ReuseRecord = true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the file is empty; its first line must name the columns %s", strings.Join(columns, ","))
	}
	if err != nil {
		return nil, err
	}
	position, err := findColumns(header)
	if err != nil {
		return nil, err
	}
	var customers []customer
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return customers, nil
		}
		if err != nil {
			return nil, err
		}
		c := customer{
			id:    strings.TrimSpace(fields[position["recordid"]]),
			batch: strings.TrimSpace(fields[position["batch"]]),
			name:  fields[position["name"]],
			email: fields[position["email"]],
		}
		if err := c.check(); err != nil {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		customers = append(customers, c)
	}
}

// skipBOM takes off the mark with which some spreadsheets begin a UTF-8 file.
func skipBOM(r io.Reader) io.Reader {
	buffered := bufio.NewReader(r)
	bom := []byte("\xef\xbb\xbf")
	if start, _ := buffered.Peek(len(bom)); bytes.Equal(start, bom) {
		buffered.Discard(len(bom)) // cannot fail: these bytes are in the buffer
	}
	return buffered
}

// findColumns returns where each of columns, in lower case, stands in the header.
func findColumns(header []string) (map[string]int, error) {
	position := map[string]int{}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := position[name]; twice && name != "" {
			return nil, fmt.Errorf("line 1: the column %q is there twice", oneLine(name, 100))
		}
		position[name] = i
	}
	for _, name := range columns {
		if _, ok := position[strings.ToLower(name)]; !ok {
			return nil, fmt.Errorf("line 1: the column %s is missing; the first line must name the columns %s, separated by commas",
				name, strings.Join(columns, ","))
		}
	}
	return position, nil
}

func (c customer) check() error {
	switch {
	case c.id == "":
		return errors.New("the RecordId is empty")
	case c.batch == "":
		return errors.New("the Batch is empty")
	case !utf8.ValidString(c.id + c.batch + c.name + c.email):
		return errors.New("the text is not UTF-8; save the file as UTF-8")
	}
	return nil
}
