// Package payload compresses text for an orchestration's input, in the format of the C# code that this project
// replaces, so that a function in either language reads what the other wrote:
//
//	base64( length of the text in UTF-8, int32, little-endian ‖ gzip(text in UTF-8) )
//
// in the standard alphabet with padding. A .NET reader allocates exactly the length that is written there. The empty
// string is the length 0 and nothing behind it, "AAAAAA==". The bytes that gzip makes may differ from .NET's.
//
//	s := payload.Compress(`{"RecordIds":["C-001"]}`)
//	text, err := payload.Decompress(s, 0)
//
// A .NET string can hold half of a surrogate pair, but UTF-8 cannot: .NET writes U+FFFD in its place. Compress does the same with
// bytes that are not UTF-8.
package payload

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// DefaultMaxBytes is the longest text, in bytes of UTF-8, that Decompress returns unless told otherwise: 64 MiB.
const DefaultMaxBytes = 64 << 20

// ErrTooLarge says that a payload claims to be a longer text than the limit, or expands to more than it claims. It was
// refused before it was expanded.
var ErrTooLarge = errors.New("the payload is too large")

const prefixBytes = 4

// Compress returns the payload that holds text. It panics on a text of 2 GiB or more, whose length the format cannot
// express.
func Compress(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > math.MaxInt32 {
		panic(fmt.Sprintf("payload: a text of %d bytes is too long for the format", len(text)))
	}
	b := bytes.NewBuffer(binary.LittleEndian.AppendUint32(nil, uint32(len(text))))
	if text != "" {
		z := gzip.NewWriter(b)
		_, _ = io.WriteString(z, text) // a buffer takes everything
		_ = z.Close()
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// Decompress returns the text of a payload. A text of more than maxBytes bytes is refused with an error that wraps
// ErrTooLarge; maxBytes of 0 or less means DefaultMaxBytes. Memory is taken as the text unfolds, whatever length the
// payload claims.
func Decompress(s string, maxBytes int) (string, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", fmt.Errorf("the payload is not base64: %w", err)
	}
	if len(raw) < prefixBytes {
		return "", fmt.Errorf("the payload has %d bytes: too short for its length prefix", len(raw))
	}
	claimed := int(int32(binary.LittleEndian.Uint32(raw)))
	switch {
	case claimed < 0:
		return "", fmt.Errorf("the payload claims the negative length %d", claimed)
	case claimed > maxBytes:
		return "", fmt.Errorf("%w: it claims %d bytes, the limit is %d", ErrTooLarge, claimed, maxBytes)
	case claimed == 0 && len(raw) == prefixBytes:
		return "", nil
	}
	text, err := expand(raw[prefixBytes:], claimed)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(text) {
		return "", errors.New("the payload's text is not UTF-8")
	}
	return string(text), nil
}

// expand reads one gzip stream that must hold exactly the claimed number of bytes.
func expand(compressed []byte, claimed int) ([]byte, error) {
	rest := bytes.NewReader(compressed)
	z, err := gzip.NewReader(rest)
	if err != nil {
		return nil, fmt.Errorf("the payload holds no gzip stream: %w", err)
	}
	z.Multistream(false)
	text, err := io.ReadAll(io.LimitReader(z, int64(claimed)+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the payload's gzip stream is damaged: %w", err)
	case len(text) > claimed:
		return nil, fmt.Errorf("%w: it expands to more than the %d bytes it claims", ErrTooLarge, claimed)
	case len(text) < claimed:
		return nil, fmt.Errorf("the payload claims %d bytes and expands to %d", claimed, len(text))
	case rest.Len() > 0:
		return nil, fmt.Errorf("the payload has %d bytes behind its gzip stream", rest.Len())
	}
	return text, nil
}

// UTF16Len returns how many bytes s takes as UTF-16, the way Azure Storage counts.
func UTF16Len(s string) int {
	n := 0
	for _, r := range s {
		if n += 2; r > 0xFFFF {
			n += 2 // a surrogate pair
		}
	}
	return n
}
