//go:build production

// A clean room's image has no certificates of its own, and one that was made of
// a customer's has those of whoever made that: the runtime believes the roots
// that it was built with, Mozilla's as golang.org/x/crypto publishes them, and
// neither the image's nor those that a variable names.
//go:debug x509usefallbackroots=1

package main

import _ "golang.org/x/crypto/x509roots/fallback"
