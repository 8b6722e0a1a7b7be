package fs

import (
	"fmt"

	"cloister/fs/format"
	"cloister/internal/fault"
)

// ErrDamaged is found in the error of a read whose bytes the store does not
// have as they were sealed: a segment that does not open, an object that is
// missing or ends early. What has been damaged stays damaged; an error of the
// store that may pass does not wrap it.
var ErrDamaged = fault.Sentinel(fault.Refused, "the volume is damaged")

// DamageError says which segment of which data object is damaged. It wraps
// ErrDamaged and the cause: format.ErrAuthentication, or the store's error.
type DamageError struct {
	Object  format.ObjectID
	Segment int64
	Err     error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%v: segment %d of object %s: %v", ErrDamaged, e.Segment, e.Object, e.Err)
}

// Unwrap makes both the class and the cause visible to errors.Is.
func (e *DamageError) Unwrap() []error { return []error{ErrDamaged, e.Err} }
