// Package ledger is a contract's log: one directory, one contract.
//
// Life of an append: Append queues its entries; who has the turn takes the
// directory's lock, follows what other processes appended since, and takes
// everything that waits by then. The fold is asked whether each entry may be the
// next after the one before it; those that may go to Tessera, which writes entry
// bundles and tiles and syncs them. One checkpoint over the grown tree is held
// against the tiles, signed, offered to Cosign, and put in place of the old one;
// the new entries are followed back from the bundles, and everybody who waited
// gets his receipt. The checkpoint is what makes an entry part of the log:
// readers go up to it and no further, so they need no lock.
//
//	log/         Tessera's: tile/ as in C2SP tlog-tiles, and its own state
//	checkpoint   signed, C2SP tlog-checkpoint
//	ledger.key   the key that signs it, mode 0600
//	ledger.pub   its verifier key, as a specification names it
//	parties      who may propose the contract: fingerprints of keys, a line each
//	snapshot     what the log came to when that was last saved, mode 0600
//	asked-N      what its servers were asked in the last minutes (package service)
//	refused      statements that were refused, where the contract has them kept, and
//	             refused.older before those
//	lock         held by whoever appends
//
// A start reads the log from the snapshot on, which this program made with the
// ledger's key, over a checkpoint, and authenticated; what does not hold in any way
// is passed over, and the log read from its first entry. So a changed snapshot costs
// time and changes nothing, and damage to the tiles before it shows to the readers of
// these entries, or with WithoutSnapshot. It is saved every 32,768 entries and by
// Close.
//
// Several processes may serve one directory, on one machine or over a file system
// that has POSIX locks, links and renames; one process opens it once. They take
// turns: the lock is held from following the log until the checkpoint is in place,
// so each judges an entry with all before it folded. That makes them stand in for
// each other, not append faster: what bounds appends is the one fold, and more come
// from a log a contract. Outgrowing the files means one of Tessera's cloud back ends
// in the place of store.go, and a lock there over following, folding and publishing;
// there is none yet.
//
// Tessera's own publishing of checkpoints, at intervals and in the background, is
// not what readers see: it would publish what no witness has cosigned, and tell
// nobody why it could not. So log/checkpoint is only the mark up to which Tessera
// removes parts of tiles that are full by now, signed with a key of the moment.
//
// Whoever can write the directory is the ledger's operator, and with the key in
// it can show different logs to different readers, or hold entries back. What
// no operator can do is say something in a party's or an enclave's name, or
// change what a reader has already seen without that reader noticing.
package ledger
