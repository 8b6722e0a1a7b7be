// Package ledger is a contract's log on files: one directory, one contract.
//
// Life of an append: Append takes the directory's lock, follows what other
// processes appended since, asks the fold whether the statement, or each of a
// run's several after the one before it, may be the next, writes those that may
// as lines of entries.jsonl and syncs, signs one checkpoint over the grown tree
// and puts it in place of the old one, syncs again, follows its own entries back
// from the file, and acknowledges. The checkpoint is what makes an
// entry part of the log: readers go up to it and no further, so they need no
// lock.
//
//	entries.jsonl   one entry a line, in order
//	checkpoint      signed, C2SP tlog-checkpoint
//	ledger.key      the key that signs it, mode 0600
//	ledger.pub      its verifier key, as a specification names it
//	lock            held by whoever appends
//
// Whoever can write the directory is the ledger's operator, and with the key in
// it can show different logs to different readers, or hold entries back. What
// no operator can do is say something in a party's or an enclave's name, or
// change what a reader has already seen without that reader noticing.
package ledger
