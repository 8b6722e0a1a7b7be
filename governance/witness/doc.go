// Package witness is a party's cosigner: it vouches that a ledger shows
// everybody one and the same log.
//
// Life of a checkpoint: a ledger posts it to add-checkpoint (C2SP tlog-witness)
// with the size that the witness cosigned last and a proof that the new log is
// the old one and more. The witness verifies the ledger's signature, takes its
// directory's lock, sees that its party has not withdrawn, verifies the proof
// against the head in the file, puts the new head in its place, syncs, and only
// then signs it together with the time (C2SP tlog-cosignature, Ed25519). So a
// witness killed anywhere, or two over one directory, never cosign two logs of
// which neither goes on from the other.
//
//	witness.key      the key that cosigns, mode 0600
//	witness.pub      its verifier key, as a specification names it
//	ledgers/HASH     a ledger that it follows: verifier key, empty line, and the
//	                 checkpoint that it cosigned last, if any; HASH is of its name
//	withdrawn        there while the party's consent is withdrawn: nothing is cosigned
//	lock             held by whoever cosigns, follows, withdraws or resumes
//
// The directory must never be restored from a backup or copied: an old head lets
// a ledger rewrite what came after it. Make a new witness instead, and amend the
// specification.
package witness
