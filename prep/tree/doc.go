// Package tree is a folder on the owner's machine: how it is read, and how it
// is made again.
//
// Life of a file on its way into a volume: Names gives what a directory holds,
// Stat says of each what a volume keeps, and a Version of it; later, perhaps on
// another goroutine, Open opens the file, Data says where it is not a hole, the
// caller reads, and Check compares the open file with the Version: who reads
// without an error has read what Stat saw.
//
// On its way out, below an os.Root, Node makes what has no contents, and
// Restore gives a file or directory its owner, attributes, mode and times.
//
// What a system cannot say or keep is left out there: Windows has no owners,
// inode numbers or devices; extended attributes and holes are Linux's only.
package tree
