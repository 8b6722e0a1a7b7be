// Package fs is a volume as a file system, free of FUSE: reading an input
// volume, writing an output volume.
//
// Life of a read: the kernel asks package mount for bytes of an inode; mount
// calls Volume.ReadAt; the extents in the manifest say which objects and
// segments hold them; each segment comes from the segment cache (package
// cache), or on a miss, once for all who wait, from the store as ciphertext,
// opened by package format; the plaintext goes into the reply. Read-ahead
// calls the cache; it is not a layer.
//
// Where bytes come from (a Store) and where keys come from (a KeyFunc) are the
// caller's to say.
package fs
