// Package keyfile keeps the owner's root secret in a file, KEYFILE.
//
// Life of a root secret: Write encodes it, encrypts it if there is a
// passphrase, and makes the file whole or not at all, never over another; Read
// refuses a file that others may read, decodes it, and wipes what it read; the
// caller derives a DEK and destroys the secret.
//
// The file is text, so that it can be printed and typed in again. Its first
// line is a comment that says what it is. Then comes either the key line
//
//	cloister-key-v1.SECRET.CHECKSUM
//
// with SECRET the 32 bytes in 64 lower-case hex digits and CHECKSUM the first 4
// bytes of SHA-256("cloister key file v1" ‖ the 32 bytes) in 8, or, with a
// passphrase, that line and its new line as an armored age file (age-encryption.org/v1) for a
// scrypt recipient. The checksum finds typing errors; it narrows a search among
// 2^256 secrets to 2^224, which helps nobody.
package keyfile
