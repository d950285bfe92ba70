package payload

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// TestRecordings reads every text that .NET compressed, and has what Compress makes of it read as .NET would.
func TestRecordings(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/dotnet-codec.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	lines := bufio.NewScanner(f)
	for lines.Buffer(nil, 1<<20); lines.Scan(); n++ {
		var l struct{ Text, Compressed string }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if got, err := Decompress(l.Compressed, 0); err != nil || got != l.Text {
			t.Errorf("%.40q: Decompress = %.40q, %v", l.Text, got, err)
		}
		if got := asDotNet(t, Compress(l.Text)); got != l.Text {
			t.Errorf("%.40q: .NET would read %.40q", l.Text, got)
		}
	}
	if n < 15 {
		t.Fatalf("only %d lines found", n)
	}
}

// asDotNet reads a payload as the C# DecompressString does, with nothing of gzip's framing taken on trust: the claimed
// length is allocated, the deflate stream behind the ten bytes of header fills it, checksum and length must follow.
func asDotNet(t *testing.T, s string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, int32(binary.LittleEndian.Uint32(raw)))
	if len(buffer) == 0 {
		if len(raw) != 4 {
			t.Fatalf("the empty text has %d bytes behind its length", len(raw)-4)
		}
		return ""
	}
	if !bytes.Equal(raw[4:8], []byte{0x1f, 0x8b, 8, 0}) {
		t.Fatalf("the gzip header is % x, want one without flags", raw[4:14])
	}
	body, trailer := raw[14:len(raw)-8], raw[len(raw)-8:]
	deflate := flate.NewReader(bytes.NewReader(body))
	if _, err := io.ReadFull(deflate, buffer); err != nil {
		t.Fatal(err)
	}
	if n, err := deflate.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("the text is longer than its prefix says: %v", err)
	}
	if crc32.ChecksumIEEE(buffer) != binary.LittleEndian.Uint32(trailer) || int(binary.LittleEndian.Uint32(trailer[4:])) != len(buffer) {
		t.Fatal("the gzip trailer is wrong")
	}
	return string(buffer)
}

func TestCompress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         "",
		"a":                        "a",
		"\xff":                     "\uFFFD",
		"日本語😀\u2028\x00":           "日本語😀\u2028\x00",
		strings.Repeat("x", 5<<20): strings.Repeat("x", 5<<20),
	} {
		s := Compress(text)
		if got := asDotNet(t, s); got != want {
			t.Errorf("%.20q: .NET would read %.20q", text, got)
		}
		if got, err := Decompress(s, 0); err != nil || got != want {
			t.Errorf("%.20q: Decompress = %.20q, %v", text, got, err)
		}
	}
	if got := Compress(""); got != "AAAAAA==" {
		t.Errorf("the empty string is %q, want what .NET writes", got)
	}
}

// pack makes a payload of any claimed length and any bytes.
func pack(claimed int32, parts ...[]byte) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(claimed))
	return base64.StdEncoding.EncodeToString(append(b, bytes.Join(parts, nil)...))
}

func zip(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.Bytes()
}

func TestDecompressRefuses(t *testing.T) {
	t.Parallel()
	hello := zip("hello")
	damaged := bytes.Clone(hello)
	damaged[len(damaged)-8] ^= 1 // the checksum
	tests := []struct {
		name, payload string
		max           int
		tooLarge      bool
		says          string
	}{
		{"bad base64 byte", "BQAAAB+L!CAA", 0, false, "not base64: illegal base64 data at input byte 8"},
		{"no padding", "AAAAAA", 0, false, "not base64"},
		{"empty", "", 0, false, "too short for its length prefix"},
		{"three bytes", base64.StdEncoding.EncodeToString([]byte{1, 2, 3}), 0, false, "has 3 bytes"},
		{"negative length", pack(-1, hello), 0, false, "negative length -1"},
		{"smallest length", pack(-1<<31, hello), 0, false, "negative length -2147483648"},
		{"length too small", pack(4, hello), 0, true, "more than the 4 bytes it claims"},
		{"length zero", pack(0, hello), 0, true, "more than the 0 bytes it claims"},
		{"length too large", pack(6, hello), 0, false, "claims 6 bytes and expands to 5"},
		{"claims over the limit", pack(5, hello), 4, true, "claims 5 bytes, the limit is 4"},
		{"claims over the default limit", pack(DefaultMaxBytes+1, hello), 0, true, "the limit is 67108864"},
		{"largest length", pack(1<<31-1, hello), -1, true, "claims 2147483647 bytes"},
		{"trailing garbage", pack(5, hello, []byte("x")), 0, false, "1 bytes behind its gzip stream"},
		{"second member", pack(5, hello, zip("")), 0, false, "behind its gzip stream"},
		{"second member counted", pack(10, hello, hello), 0, false, "claims 10 bytes and expands to 5"},
		{"no gzip", pack(5, []byte("hello")), 0, false, "no gzip stream"},
		{"nothing behind the length", pack(5), 0, false, "no gzip stream"},
		{"truncated", pack(5, hello[:len(hello)-9]), 0, false, "damaged: unexpected EOF"},
		{"no trailer", pack(5, hello[:len(hello)-8]), 0, false, "damaged: unexpected EOF"},
		{"wrong checksum", pack(5, damaged), 0, false, "damaged: gzip: invalid checksum"},
		{"not UTF-8", pack(2, zip("\xff\xfe")), 0, false, "not UTF-8"},
	}
	for _, tt := range tests {
		got, err := Decompress(tt.payload, tt.max)
		if err == nil || got != "" {
			t.Errorf("%s: got %q, %v; want an error", tt.name, got, err)
			continue
		}
		if errors.Is(err, ErrTooLarge) != tt.tooLarge || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want it to say %q, ErrTooLarge %v", tt.name, err, tt.says, tt.tooLarge)
		}
	}
}

func TestDecompressAtTheLimit(t *testing.T) {
	t.Parallel()
	if got, err := Decompress(pack(5, zip("hello")), 5); err != nil || got != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := Decompress(pack(0, zip("")), 0); err != nil || got != "" { // no .NET writes it, but it is right
		t.Errorf("got %q, %v", got, err)
	}
}

// TestDecompressTakesNoMemoryOnTrust gives small payloads that claim or hold much. Not parallel: it measures.
func TestDecompressTakesNoMemoryOnTrust(t *testing.T) {
	bomb := zip(strings.Repeat("\x00", 65<<20))
	for name, s := range map[string]string{
		"claims the limit and holds little": pack(DefaultMaxBytes, zip("hello")),
		"claims little and holds much":      pack(5, bomb),
		"claims too much":                   pack(65<<20, bomb),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decompress(s, 0)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%s: took %d bytes of memory", name, took)
		}
	}
}

func TestUTF16Len(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "é", "\u2028", "日本語", "😀", "a😀b", "\uFFFF\U00010000"} {
		if got, want := UTF16Len(s), 2*len(utf16.Encode([]rune(s))); got != want {
			t.Errorf("UTF16Len(%q) = %d, want %d", s, got, want)
		}
	}
}

func FuzzCompress(f *testing.F) {
	for _, seed := range []string{"", "a", "日本語😀", "\xff", `{"RecordIds":["C-001"]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := strings.ToValidUTF8(text, "\uFFFD")
		s := Compress(text)
		if got, err := Decompress(s, len(text)*3+1); err != nil || got != want {
			t.Fatalf("%q: Decompress = %q, %v", text, got, err)
		}
		if got := asDotNet(t, s); got != want {
			t.Fatalf("%q: .NET would read %q", text, got)
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for _, s := range []string{"", "AAAAAA==", Compress("hello"), pack(5, zip("hello"), zip("x")), pack(-1), pack(1<<30, zip("hello")), "####"} {
		f.Add(s, 0)
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, maxBytes int) {
		text, err := Decompress(s, maxBytes)
		if err != nil {
			return
		}
		if maxBytes > 0 && len(text) > maxBytes || len(text) > DefaultMaxBytes && maxBytes <= 0 {
			t.Fatalf("%d bytes, the limit was %d", len(text), maxBytes)
		}
		if !utf8.ValidString(text) {
			t.Fatal("not UTF-8")
		}
		if again, err := Decompress(Compress(text), max(len(text), 1)); err != nil || again != text {
			t.Fatalf("%q became %q, %v", text, again, err)
		}
	})
}

func benchmarkText() string {
	var b strings.Builder
	for i := range 10_000 {
		b.WriteString(`"C-`)
		b.WriteString(strings.Repeat("0", i%7))
		b.WriteString(`",`)
	}
	return b.String()
}

func BenchmarkCompress(b *testing.B) {
	text := benchmarkText()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		Compress(text)
	}
}

func BenchmarkDecompress(b *testing.B) {
	text := benchmarkText()
	s := Compress(text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Decompress(s, 0); err != nil {
			b.Fatal(err)
		}
	}
}
