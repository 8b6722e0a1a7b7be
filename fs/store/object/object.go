// Package object is what every store agrees on: what an object may be named,
// how it is listed, and the two conditions that callers branch on.
//
// Life of a request: a store checks the name with CheckName before it touches
// the directory or the network, and wraps ErrNotExist or ErrExist into the
// error that it returns, so that a caller needs to know neither which store it
// talks to nor how that store words a refusal.
package object

import (
	"io/fs"
	"strings"

	"cloister/internal/fault"
)

// ErrNotExist and ErrExist are what errors.Is finds in a store's error when the
// object asked for is not there, and when the name of a new one is taken. They
// are io/fs's own values, so that packages which may not import a store can
// branch on them too.
var (
	ErrNotExist = fs.ErrNotExist
	ErrExist    = fs.ErrExist
)

// Entry is one object in a listing: its name and its size in bytes. It is an
// alias of an unnamed type on purpose: a consumer can declare the interface it
// needs without importing a store.
type Entry = struct {
	Name string
	Size int64
}

// MaxName and maxPart are the longest object name and the longest part of one
// between slashes, in bytes. 255 is what common file systems allow for a part;
// 512 leaves half of Azure's 1,024 to the volume's own prefix.
const (
	MaxName = 512
	maxPart = 255
)

// CheckName refuses a name that no store could hold under that name: names are
// relative paths of parts [A-Za-z0-9._-]+ joined by single slashes. A part does
// not begin with a dot, which leaves dotted names to the directory store's own
// use and keeps "." and ".." out. Consumers use lower case: some file systems
// fold it, and a folded clash would be refused as a name already taken.
func CheckName(name string) error {
	if Valid(name) {
		return nil
	}
	return fault.Errorf(fault.Internal, "", "%q is not an object name", name)
}

// Valid reports whether CheckName would accept name.
func Valid(name string) bool {
	if len(name) > MaxName {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if !validPart(part) {
			return false
		}
	}
	return true
}

func validPart(part string) bool {
	if part == "" || len(part) > maxPart || part[0] == '.' {
		return false
	}
	for _, c := range []byte(part) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
