package governance

import (
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// FuzzCheckpoint parses a checkpoint's text as if its signature were right: a
// ledger's operator signs what he likes. What parses has one form, extension
// lines aside.
func FuzzCheckpoint(f *testing.F) {
	f.Add(NewCheckpoint("ledger", 7, tlog.Hash{1}))
	f.Add(NewCheckpoint("ledger", 0, tlog.Hash{}) + "extension\n")
	f.Add("ledger\n7\nAQAAAAAAAAAAAAAAA\r\r\r\r\r\r\r\rAAAAAAAAAAAAAAAAAAAAAAAJAA=\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		if form := NewCheckpoint(c.Origin, c.Size, c.Root); len(text) < len(form) || text[:len(form)] != form {
			t.Errorf("%q parses as %+v, whose form is %q", text, c, form)
		}
	})
}
