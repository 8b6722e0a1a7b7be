package format

import (
	"fmt"

	"cloister/internal/fault"
)

// ErrMalformed is what bytes that open but are not well-formed, or are not of
// this format at all, are refused with.
var ErrMalformed = fault.Sentinel(fault.Refused, "not a well-formed Cloister volume")

// ErrWrongKey is what a DEK whose check value is not the volume's is refused
// with.
var ErrWrongKey = fault.Sentinel(fault.Refused, "the key is not this volume's")

// ErrNotRecipient is what a recipient's key is refused with for which a volume
// has no stanza.
var ErrNotRecipient = fault.Sentinel(fault.Refused, "the volume is not sealed for this key")

// ErrReference is what a volume that is not the one a reference names is
// refused with.
var ErrReference = fault.Sentinel(fault.Refused, "the volume is not the one the reference names")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
