// Package remote is a contract's log behind HTTP, as parties and enclaves see it.
//
// Life of an append: Append posts the statements, which are signed already, and
// gets a receipt with a signed checkpoint, or a problem that says by its reason
// what the fold refused. Life of a read: tiles and entry bundles are fetched by
// the paths of C2SP tlog-tiles through package tiles, each request signed with the
// reader's key (Sign), as the record is not for everybody. A run that the log does
// not know yet is introduced by its evidence, and reads with its audit key.
//
// TLS keeps what is said from strangers; it proves nothing about the log. That is
// in the signed checkpoint, to which a governance.View holds all that is read.
package remote
