package wire

import (
	"bytes"
	"encoding/json"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"example.com/durablefunctions/handler/internal/newtonsoft"
)

func nested(open, inner, closing string, n int) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(closing, n)
}

// ordinary values travel as they are, without being copied.
var ordinary = []string{
	`null`, `true`, `false`, `0`, `1`, `-1`, `42`, `1.5`, `0.1`, `1.50`, `-2.25`, `1.0`, `-0.0`, `-0e5`, `0.0e999`, `1e2`, `1.0E+5`, `1e21`, `1e300`,
	`9007199254740993`, `-123456789012345678901234567890`, `0.30000000000000004`, `0.12345678901234568`, `5e-324`,
	`1.7976931348623157e308`, ` { "a" : [ 1 , 2 ] } `, "\t1\r\n",
	`""`, `"a"`, `"hello"`, `"2026-11-22"`, `"12:30:00"`, `"2026-11-22 10:11:12+02:00"`, `"2026-W47-1"`, `"20261122T101112Z"`, `"Date(5)"`, `"/Date("`,
	`"😀👩‍👩‍👧"`, `"\ud83d\ude00"`, `"` + "\u2028" + `"`, `"\u0000"`, `"aGVsbG8="`, `"<b>&amp;"`, `"\ufffd"`, `"durable"`, `"the marker is durable-json:"`,
	`[]`, `{}`, `{"RecordId":"7","Success":false}`, `{"A":1,"a":2}`, `{"":1}`, `{"a$":1}`, `["$type"]`, `[{"a":1},{"a":2}]`,
	`{"2026-11-22T10:11:12+02:00":1}`, `{"a":{"a":{"a":1}}}`,
	nested("[", "1", "]", 60), nested(`{"a":`, "1", "}", 60),
	strings.Repeat("9", 380),
}

// altered values are those that the host would rewrite or refuse, in one direction at least.
var altered = []string{
	`-0`, `[-0]`, `1e400`, `-1e400`, `1e-400`, `0.1234567890123456789`, `1.00000000000000001`, `9007199254740993.0`, `1e99999999999`,
	`"2026-11-22T10:11:12+02:00"`, `"2026-11-22T10:11:12.000Z"`, `"2026-11-22T10:11:12Z"`, `"2026-11-22T24:00:00Z"`, `"2026-11-22T10:11:12.500"`,
	`{"at":["2026-11-22T10:11:12+0200"]}`, `"/Date(1234567890000)/"`, `"\/Date(1)\/"`, `"\u002fDate(1)/"`, `"/D\u0061te(1+0200` + strings.Repeat("x", 300) + `)/"`,
	`"\u0032026-11-22T10:11:12+02:00"`,
	`{"$type":"x"}`, `{"a":1,"$id":"x"}`, `[[{"$ref":"1","b":2}]]`, `{"\u0024values":[1]}`, `{"$":1}`,
	`{"a":1,"a":2}`, `{"a":1,"\u0061":1}`, `[{"b":{"x":1,"y":2,"x":1}}]`, `{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"2":1}`,
	`"\ud800"`, `"a\udc00b"`, `"\ud800\ud800\udc00"`, `"\ud83d\\ude00"`, `{"\ud800":1}`, `{"/Date(\ud800)/":1}`,
	`"durable-json:"`, `"durable-json:1"`, `"durable-json:\"durable-json:1\""`, `"\u0064urable-json:{}"`,
	nested("[", "1", "]", 61), nested("[", "", "]", 200), nested(`{"a":`, "1", "}", 200),
	strings.Repeat("9", 381),
}

func TestOrdinaryValuesStayPlain(t *testing.T) {
	t.Parallel()
	for _, text := range ordinary {
		in := []byte(text)
		out, err := EncodeValue(in)
		if err != nil {
			t.Errorf("EncodeValue(%.80s): %v", text, err)
		} else if &out[0] != &in[0] || len(out) != len(in) {
			t.Errorf("EncodeValue(%.80s) = %.80s, want it as it is", text, out)
		}
		if back := DecodeValue(in); string(back) != text {
			t.Errorf("DecodeValue(%.80s) = %.80s, want it as it is", text, back)
		}
		checkWay(t, in)
	}
}

func TestAlteredValuesAreMarked(t *testing.T) {
	t.Parallel()
	for _, text := range altered {
		out, err := EncodeValue([]byte(text))
		if err != nil {
			t.Errorf("EncodeValue(%.80s): %v", text, err)
		} else if !bytes.HasPrefix(out, []byte(`"`+Marker)) {
			t.Errorf("EncodeValue(%.80s) = %.80s, want it marked", text, out)
		}
		if back := DecodeValue(out); string(back) != text {
			t.Errorf("DecodeValue(%.80s) = %.80s, want %.80s", out, back, text)
		}
		checkWay(t, []byte(text))
	}
}

func TestInvalidValues(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, ` `, `{`, `1 2`, `nul`, `'a'`, `NaN`, `[1,]`, `{"a":1}x`, "\"\xff\"", "\"\n\"", `01`, `"\x"`} {
		if out, err := EncodeValue([]byte(text)); err == nil || out != nil {
			t.Errorf("EncodeValue(%q) = %q, %v; want an error", text, out, err)
		}
	}
}

func TestDecodeValueLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, `"`, `"durable-json:`, `"durable-json:no JSON"`, `"durable-json:"`, `x`, ` {"a":"durable-json:1"}`} {
		if got := DecodeValue([]byte(text)); string(got) != text {
			t.Errorf("DecodeValue(%q) = %q, want it as it is", text, got)
		}
	}
}

func TestResultWithNameOfOutput(t *testing.T) {
	t.Parallel()
	outputs := []string{"mail", "queue"}
	for text, marked := range map[string]bool{
		`{"mail":1}`:                true,
		`{"a":1,"queue":null}`:      true,
		`{"\u006dail":1}`:           true,
		`{"Mail":1}`:                false,
		`{"a":{"mail":1}}`:          false,
		`[{"mail":1}]`:              false,
		`"mail"`:                    false,
		`{"a":"mail","b":["mail"]}`: false,
	} {
		out, err := EncodeResult([]byte(text), outputs)
		if err != nil || bytes.HasPrefix(out, []byte(`"`+Marker)) != marked {
			t.Errorf("EncodeResult(%s) = %s, %v; marked should be %v", text, out, err, marked)
		}
		if back := DecodeValue(out); string(back) != text {
			t.Errorf("DecodeValue(%s) = %s, want %s", out, back, text)
		}
	}
}

// TestRandomValues sends random values through what the host does, and back.
func TestRandomValues(t *testing.T) {
	t.Parallel()
	g := generator{rand.New(rand.NewPCG(4, 5))}
	for range 20_000 {
		checkWay(t, []byte(g.value(0)))
		if t.Failed() {
			return
		}
	}
}

func TestLargeValues(t *testing.T) {
	t.Parallel()
	g := generator{rand.New(rand.NewPCG(5, 5))}
	var many strings.Builder
	for many.WriteString("["); many.Len() < 5<<20; many.WriteString(",") {
		many.WriteString(g.value(2))
	}
	many.WriteString("null]")
	for _, text := range []string{
		many.String(),
		`"` + strings.Repeat(`\n`, 5<<19) + `\ud800"`,
		`["2026-11-22T10:11:12Z","` + strings.Repeat("é😀", 5<<20/6) + `"]`,
	} {
		checkWay(t, []byte(text))
	}
}

// checkWay sends a value through the host as an input and as a result, and reports what does not mean the same.
func checkWay(t *testing.T, text []byte) {
	t.Helper()
	sent, err := EncodeValue(text)
	if err != nil {
		t.Errorf("EncodeValue(%.200q): %v", text, err)
		return
	}
	for name, host := range map[string]func([]byte) ([]byte, error){"Input": newtonsoft.Input, "Result": newtonsoft.Result} {
		arrived, err := host(sent)
		if err != nil {
			t.Errorf("%s: the host refuses %.200q, sent as %.200q: %v", name, text, sent, err)
			continue
		}
		got := DecodeValue(arrived)
		if g, w := meaning(got), meaning(text); g != w {
			t.Errorf("%s: %.200q arrived as %.200q\n got %.200q\nwant %.200q", name, text, got, g, w)
		}
	}
}

// meaning returns a text that two JSON texts have in common if and only if they mean the same: numbers as exact
// decimals, the sign of zero, keys, their order and repetition, and strings by their UTF-16 code units, as escapes can
// name halves of surrogate pairs. It shares no code with the scanner under test.
func meaning(text []byte) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ', c == '\t', c == '\r', c == '\n':
			i++
		case c == '"':
			end := i + 1
			for text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			out.WriteString(codeUnits(string(text[i+1 : end])))
			i = end + 1
		case c == '-', '0' <= c && c <= '9':
			end := i
			for end < len(text) && strings.ContainsRune("+-.eE0123456789", rune(text[end])) {
				end++
			}
			out.WriteString(exactDecimal(string(text[i:end])))
			i = end
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String()
}

func codeUnits(raw string) string {
	var units []uint16
	for raw != "" {
		switch {
		case strings.HasPrefix(raw, `\u`):
			n, _ := strconv.ParseUint(raw[2:6], 16, 16)
			units = append(units, uint16(n))
			raw = raw[6:]
		case raw[0] == '\\':
			c := raw[1]
			if i := strings.IndexByte(`bfnrt`, c); i >= 0 {
				c = "\b\f\n\r\t"[i]
			}
			units = append(units, uint16(c))
			raw = raw[2:]
		default:
			r, size := utf8.DecodeRuneInString(raw)
			units = utf16.AppendRune(units, r)
			raw = raw[size:]
		}
	}
	out := strconv.AppendInt([]byte{'"'}, int64(len(units)), 10)
	for _, u := range units {
		out = append(out, byte(u>>8), byte(u))
	}
	return string(out)
}

func exactDecimal(text string) string {
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	mantissa, power, _ := strings.Cut(strings.ToLower(text), "e")
	exponent, ok := new(big.Int).SetString(strings.TrimPrefix(power, "+"), 10)
	if !ok {
		exponent = new(big.Int)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	exponent.Sub(exponent, big.NewInt(int64(len(fraction))))
	short := strings.TrimRight(digits, "0")
	exponent.Add(exponent, big.NewInt(int64(len(digits)-len(short))))
	if short == "" {
		return sign + "0"
	}
	return sign + short + "e" + exponent.String()
}

// generator makes random JSON texts, rich in what the host alters.
type generator struct{ *rand.Rand }

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) value(depth int) string {
	kind := g.IntN(10)
	if depth > 5 && kind > 6 {
		kind -= 4
	}
	switch kind {
	case 0:
		return g.pick("null", "true", "false")
	case 1, 2, 3:
		return g.number()
	case 4, 5, 6:
		return g.string()
	case 7:
		return g.pick(ordinary...)
	case 8:
		items := make([]string, g.IntN(4))
		for i := range items {
			items[i] = g.value(depth + 1)
		}
		return "[" + strings.Join(items, g.pick(",", " , ")) + "]"
	default:
		items := make([]string, g.IntN(12))
		for i := range items {
			items[i] = g.string() + g.pick(":", " : ") + g.value(depth+1)
		}
		return "{" + strings.Join(items, ",") + "}"
	}
}

func (g generator) number() string {
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('0' + g.IntN(10))
		}
		return string(b)
	}
	whole := "0"
	if g.IntN(4) > 0 {
		whole = strconv.Itoa(1+g.IntN(9)) + digits(g.IntN(20))
	}
	n := g.pick("", "", "-") + whole
	if g.IntN(2) == 0 {
		n += "." + digits(1+g.IntN(20))
	}
	if g.IntN(4) == 0 {
		n += g.pick("e", "E") + g.pick("", "+", "-") + digits(1+g.IntN(3))
	}
	return n
}

func (g generator) string() string {
	var s strings.Builder
	s.WriteByte('"')
	for range g.IntN(4) {
		s.WriteString(g.pick("", "a", "b", " ", "$", "$ref", "$type", "é", "😀", "\u2028", `\u2028`, `\"`, `\\`, `\/`, `/`, `\n`, `\u0000`, `\ud800`, `\udc00`, `\ud83d\ude00`,
			"2026-11-22", "T10:11:12", "+02:00", "Z", ".500", "2026-11-22T10:11:12+02:00", "/Date(1)/", "/Date(", "12", ")/", "aGVsbG8=", Marker, `durable-json\u003a`))
	}
	s.WriteByte('"')
	return s.String()
}

func FuzzValue(f *testing.F) {
	for _, text := range append(ordinary, altered...) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if string(DecodeValue(text)) == "" && len(text) > 0 {
			t.Fatalf("DecodeValue(%q) is empty", text)
		}
		sent, err := EncodeValue(text)
		if err != nil {
			return
		}
		if !json.Valid(sent) {
			t.Fatalf("EncodeValue(%q) = %q, which is not JSON", text, sent)
		}
		checkWay(t, text)
	})
}

func BenchmarkEncodeValue(b *testing.B) {
	record := `{"RecordId":"C-000123","Name":"Ana \"M\" Kovač","Balance":1234.56,"Tags":["a","b"],"Active":true,"Since":"2026-11-22"}`
	for name, text := range map[string]string{
		"record":  record,
		"records": "[" + strings.Repeat(record+",", 10_000) + "null]",
		"marked":  `[` + strings.Repeat(record+",", 10_000) + `"2026-11-22T10:11:12Z"]`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := EncodeValue([]byte(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
