// Package fs is a volume as a file system, free of FUSE: reading an input
// volume, writing an output volume.
//
// Life of a read: the kernel asks package mount for bytes of an inode; mount
// calls File.ReadAt; the extents in the manifest say which objects and segments
// hold them. Over a local store exactly those segments are read; over any other
// they come from the cache of sealed ranges (package cache), or on a miss, once
// for all who wait, from the store. Package format opens each segment straight
// into the reply, on all cores. Read-ahead calls the cache; it is not a layer.
//
// The cache holds ciphertext: opening a segment again costs microseconds, the
// kernel keeps the plaintext that was asked for, and what is read ahead is
// never plain before somebody wants it.
//
// Where bytes come from (a Store) and where keys come from (a KeyFunc) are the
// caller's to say.
package fs
