// Package statement is what the parties and the enclave sign, byte for byte.
//
// Life of a statement: somebody who wants to say something fills a Statement
// with a Body, Sign encodes it canonically, signs it and returns the entry, the
// bytes that go into the log. Whoever reads the log gives the entry to Open,
// which accepts exactly one encoding of each statement and nothing else, and
// then checks each signature with the key that the reader trusts for it. What a
// statement does to a contract is not known here; package governance folds it.
//
// STATEMENT.md beside this file is the specification.
package statement
