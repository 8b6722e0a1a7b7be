//go:build !cgo

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "cloister-pkcs11 was built without cgo, which PKCS #11 modules need: make pkcs11")
	os.Exit(1)
}
