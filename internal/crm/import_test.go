package crm

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
)

func TestReadCustomers(t *testing.T) {
	t.Parallel()
	const header = "RecordId,Batch,Name,Email\n"
	ann := customer{id: "A", batch: "b", name: "Ann", email: "ann@example.com"}
	tests := map[string]struct {
		text string
		want []customer
		err  string
	}{
		"plain":              {text: header + "A,b,Ann,ann@example.com\n", want: []customer{ann}},
		"only a header":      {text: header},
		"any case and order": {text: "EMAIL, note ,recordid, batch ,naME\nann@example.com,x,A,b,Ann", want: []customer{ann}},
		"nameless columns":   {text: "RecordId,Batch,Name,Email,,\nA,b,Ann,ann@example.com,,\n", want: []customer{ann}},
		"byte order mark":    {text: "\ufeff" + header + "A,b,Ann,ann@example.com\r\n", want: []customer{ann}},
		"quoted, with BOM":   {text: "\ufeff\"RecordId\",Batch,Name,Email\nA,b,Ann,ann@example.com\n", want: []customer{ann}},
		"blank lines":        {text: header + "\n\nA,b,Ann,ann@example.com\n\n", want: []customer{ann}},
		"any e-mail":         {text: header + " A , b ,,\" x, y\"\n", want: []customer{{id: "A", batch: "b", email: " x, y"}}},

		"empty file":       {text: "", err: "the file is empty; its first line must name the columns RecordId,Batch,Name,Email"},
		"only a mark":      {text: "\ufeff", err: "the file is empty"},
		"column missing":   {text: "RecordId,Batch,Email\n", err: "line 1: the column Name is missing"},
		"column twice":     {text: "RecordId,Batch,Name,Email,EMAIL\n", err: `line 1: the column "email" is there twice`},
		"no id":            {text: header + "A,b,Ann,a@example.com\n \t,b,Bob,b@example.com\n", err: "line 3: the RecordId is empty"},
		"no batch":         {text: header + "A,,Ann,a@example.com\n", err: "line 2: the Batch is empty"},
		"line after quote": {text: header + "A,b,\"An\nn\",a@example.com\n,b,Bob,b@example.com\n", err: "line 4: the RecordId is empty"},
		"too few fields":   {text: header + "A,b,Ann\n", err: "record on line 2: wrong number of fields"},
		"open quote":       {text: header + "A,b,\"Ann\n", err: "line 2"},
		"not UTF-8":        {text: header + "A,b,Ren\xe9,rene@example.com\n", err: "line 2: the text is not UTF-8"},
		"not text":         {text: "PK\x03\x04\x00\x00", err: "not a text; save it as UTF-8"},
		"over the limit":   {text: header + strings.Repeat("A,b,Ann,ann@example.com\n", 50), err: "the file is larger than 1000 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readCustomers(strings.NewReader(test.text), 1000)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(customer{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadCustomersLimitIsInclusive(t *testing.T) {
	t.Parallel()
	text := "RecordId,Batch,Name,Email\nA,b,Ann,ann@example.com\n"
	if _, err := readCustomers(strings.NewReader(text), int64(len(text))); err != nil {
		t.Error(err)
	}
	if _, err := readCustomers(strings.NewReader(text), int64(len(text))-1); err == nil {
		t.Error("a file over the limit is read")
	}
}

func TestImportReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the cable was cut")
	if _, err := tempSQLite(t).Import(t.Context(), failingReader{broken}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func FuzzReadCustomers(f *testing.F) {
	f.Add(sample[:200])
	for _, seed := range []string{
		"", "\ufeff", "\ufeffRecordId,Batch,Name,Email\r\nA,b,Ann,ann@example.com\r\n", "email,name,batch,recordid\n,,,A\n",
		"RecordId,Batch,Name,Email\n\"A\n,b,c,d\n", "RecordId,Batch,Name,Email\n\xff,b,c,d\n", "RecordId,RecordId\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		customers, err := readCustomers(strings.NewReader(string(text)), 10_000)
		if err != nil {
			if customers != nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d customers with the error %q", len(customers), err)
			}
			return
		}
		for _, c := range customers {
			if c.id == "" || c.batch == "" || c.id != strings.TrimSpace(c.id) || !utf8.ValidString(c.id+c.batch+c.name+c.email) {
				t.Errorf("accepted %+v", c)
			}
		}
	})
}

// TestImportAsWritten: files as spreadsheets write them.
func TestImportAsWritten(t *testing.T) {
	t.Parallel()
	plain := "RecordId,Batch,Name,Email\nX-1,b,X,x@example.com\n"
	utf16 := func(order unicode.Endianness) string {
		text, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(plain)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for name, text := range map[string]string{
		"plain": plain, "UTF-8 with a mark": "\ufeff" + plain, "UTF-16 LE": utf16(unicode.LittleEndian), "UTF-16 BE": utf16(unicode.BigEndian),
		"sep=,": "sep=,\r\n" + strings.ReplaceAll(plain, "\n", "\r\n"), "sep=;": "SEP=;\n" + strings.ReplaceAll(plain, ",", ";"),
		"semicolons and a comma": strings.ReplaceAll(plain, ",", ";")[:len(plain)-len("X-1,b,X,x@example.com\n")-1] + ";Last, first\n" + "X-1;b;X;x@example.com;\n",
		"semicolons":             strings.ReplaceAll(plain, ",", ";"), "tabs": strings.ReplaceAll(plain, ",", "\t"),
		"rows of commas": strings.ReplaceAll(plain, "\n", ",,\n") + ",,,,,\n ,,,,,\n",
	} {
		got, err := readCustomers(strings.NewReader(text), 1<<20)
		if want := (customer{"X-1", "b", "X", "x@example.com"}); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := readCustomers(strings.NewReader("sep=,\n"+plain+"X-2,,X,x\n"), 1<<20); err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("got %v, want the line in the file", err)
	}
	if _, err := readCustomers(strings.NewReader(utf16(unicode.LittleEndian)[2:]), 1<<20); err == nil || !strings.Contains(err.Error(), "without a byte order mark") {
		t.Errorf("UTF-16 without a mark: %v", err)
	}
}
