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

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// maxImport bounds a CSV file, in bytes: it is held in memory until all of it is checked.
const maxImport = 256 << 20

// sample is what a new database starts with: made-up customers, all valid in batch 2026-10, a few not in 2026-11.
//
//go:embed sample.csv
var sample []byte

// customer is one line of a CSV file, as it stands there.
type customer struct{ id, batch, name, email string }

// columns are those that a CSV file must have; others are ignored.
var columns = []string{"RecordId", "Batch", "Name", "Email"}

// readCustomers reads a whole CSV file of at most limit bytes. It does not check e-mail addresses; that happens when they are
// processed.
func readCustomers(r io.Reader, limit int64) ([]customer, error) {
	limited := &io.LimitedReader{R: r, N: limit + 1}
	customers, err := readCSV(limited)
	if limited.N <= 0 { // before err: a file that is cut off can rarely be parsed
		return nil, fmt.Errorf("the file is larger than %d bytes; import it in parts", limit)
	}
	return customers, err
}

func readCSV(r io.Reader) ([]customer, error) {
	// Spreadsheets write UTF-16, or a mark before UTF-8.
	text := bufio.NewReader(transform.NewReader(r, unicode.BOMOverride(transform.Nop)))
	comma, skipped, err := findComma(text)
	if err != nil {
		return nil, err
	}
	in := csv.NewReader(text)
	in.Comma = comma
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
		if strings.TrimSpace(strings.Join(fields, "")) == "" {
			continue // a row of commas, which spreadsheets leave at the end
		}
		if err := c.check(); err != nil {
			line, _ := in.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line+skipped, err)
		}
		customers = append(customers, c)
	}
}

// findComma returns the character that separates the fields. A first line such as sep=; names it, and is then skipped. Otherwise
// it is the comma, or the semicolon or tab of spreadsheets in many countries if the header has more of them.
func findComma(in *bufio.Reader) (comma rune, skippedLines int, err error) {
	start, err := in.Peek(in.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	}
	if bytes.IndexByte(start, 0) >= 0 {
		return 0, 0, errors.New("the file is UTF-16 without a byte order mark, or not a text; save it as UTF-8")
	}
	line, _, _ := bytes.Cut(start, []byte("\n"))
	if text := strings.TrimSpace(string(line)); len(text) == len("sep=;") && strings.EqualFold(text[:4], "sep=") {
		_, err := in.Discard(min(len(line)+1, len(start)))
		return rune(text[4]), 1, err
	}
	comma = ','
	for _, other := range ";\t" {
		if bytes.Count(line, []byte{byte(other)}) > bytes.Count(line, []byte{byte(comma)}) {
			comma = other
		}
	}
	return comma, 0, nil
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
