// Package mount shows a volume to the kernel over FUSE. It only translates:
// the file system is in package fs.
//
// Life of a request: the kernel writes a request to /dev/fuse; go-fuse calls
// the adapter of the mount (input for a read-only volume) with a node id, which
// is the volume's inode number, and, for a read, the memory the reply is sent
// from; the adapter asks package fs, which fills that memory; an error becomes
// an errno in the one table of errno.go and is logged there, once.
//
// Life of a mount: Input checks that the machine can mount, clears what a
// killed daemon left, mounts, and returns when the kernel is being served;
// Unmount takes the mount away for real or says who holds it.
//
// Owners in a volume are users of its owner's machine. The owner's own mount
// shows them as they are; the runtime names an Options.Owner instead, who is
// shown as the owner of everything, so that modes hold for the application as
// they held for the volume's owner.
package mount
