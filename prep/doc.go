// Package prep is how the data gets there: the owner's side of a volume.
//
// Life of a folder: Encrypt walks it in the order of names, plans which bytes
// go into which object, and hands each planned object to a worker that reads,
// checks that nothing changed since the walk, and seals; another puts the
// sealed object into the store; when all are there the manifest is put, and
// with it the epoch exists. Upload copies a volume from one store to another,
// manifests last. Inspect says what can be said without the key. Verify fetches
// and opens every byte. Decrypt makes the folder again.
//
// Package tree knows folders, package format knows volumes, and a Store is the
// caller's to open; here they meet.
package prep
