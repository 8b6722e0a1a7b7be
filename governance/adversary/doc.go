// Package adversary plays a ledger whose operator lies: it holds the ledger's
// key, and shows each reader the log that suits it. Its tests hold what
// ADVERSARY.md says: with one honest witness each lie is detected or stops the
// run, and what an operator without witnesses can do is possible indeed.
package adversary
