package statement

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits. They hold for what is signed as well as for what is read, so that
// nobody signs what nobody accepts.
const (
	// MaxEntry is the largest entry in bytes: an entry bundle of C2SP
	// tlog-tiles gives each entry a length of 16 bits.
	MaxEntry = 1<<16 - 1

	maxSigners    = 4
	maxParties    = 64
	maxVolumes    = 256
	maxItems      = 64        // outputs, resources, recipients, scopes of one statement
	maxText       = 1024      // bytes of a reason, a reference or a detail
	maxKeyBytes   = 1024      // an RSA-4096 recipient key is 550 bytes
	maxCounter    = 1<<53 - 1 // RFC 8785 numbers are doubles
	runIDBytes    = 16
	nonceBytes    = 32
	volumeIDBytes = 16
	checkBytes    = 32
)

// checks collects the first violation, so that a body's rules read as a list.
type checks struct{ err error }

func (c *checks) that(ok bool, format string, args ...any) {
	if c.err == nil && !ok {
		c.err = fmt.Errorf(format, args...)
	}
}

// text holds a string to what has the same JSON encoding everywhere: UTF-8
// without control characters and line separators. It also keeps other parties'
// words from acting on a terminal.
func (c *checks) text(what, s string, max int) {
	c.that(len(s) <= max, "%s has %d bytes, at most %d are allowed", what, len(s), max)
	c.that(utf8.ValidString(s), "%s is not UTF-8", what)
	c.that(!strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
	}), "%s contains control characters", what)
}

func (c *checks) required(what, s string, max int) {
	c.that(s != "", "%s is missing", what)
	c.text(what, s, max)
}

// name holds a string to 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit.
func (c *checks) name(what, s string) {
	ok := len(s) >= 1 && len(s) <= 64 && strings.IndexByte("._-", s[0]) < 0
	for _, r := range []byte(s) {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.IndexByte("._-", r) >= 0)
	}
	c.that(ok, "%s %q is not 1 to 64 of a-z, 0-9, '.', '_', '-' beginning with a letter or digit", what, s)
}

func (c *checks) hex(what, s string, bytes int) {
	raw, err := hex.DecodeString(s)
	c.that(err == nil && len(raw) == bytes && s == strings.ToLower(s),
		"%s is not %d lower-case hexadecimal digits", what, 2*bytes)
}

func (c *checks) digest(what, s string) {
	rest, ok := strings.CutPrefix(s, "sha256:")
	c.that(ok, "%s %q does not begin with sha256:", what, s)
	c.hex(what, rest, 32)
}

func (c *checks) number(what string, n uint64) {
	c.that(n >= 1 && n <= maxCounter, "%s is %d, want 1 to 2^53-1", what, n)
}

func (c *checks) oneOf(what, s string, allowed ...string) {
	c.that(slices.Contains(allowed, s), "%s %q is none of %s", what, s, strings.Join(allowed, ", "))
}

// ascending holds a list to strictly rising names: one order, no duplicates.
func ascending[T any](c *checks, what string, list []T, max int, name func(T) string) {
	c.that(len(list) <= max, "%d %s, at most %d are allowed", len(list), what, max)
	for i := 1; i < len(list); i++ {
		c.that(name(list[i-1]) < name(list[i]), "%s are not in rising order of names without duplicates", what)
	}
}

// CheckName reports whether s can name a party, a volume or a contract: 1 to
// 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit.
func CheckName(s string) error {
	c := &checks{}
	c.name("name", s)
	return c.err
}

// Text makes any string one that a statement can carry: what is not UTF-8 or
// would act on a terminal becomes "?", and what is over 1024 bytes is cut.
func Text(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	for len(s) > maxText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
