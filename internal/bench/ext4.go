package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
)

// ext4 is the local file system with many files: an image on tmpfs, mounted
// through a loop device, so that its store costs as little as ours. Mounting it
// anew, which takes the loop device along, is what empties its caches; nobody
// else's are dropped.
var ext4 = system{"ext4", func(ctx context.Context, l *lab) (*mounted, error) {
	root, err := l.manyTree()
	if err != nil {
		return nil, err
	}
	if err := command(ctx, nil, "", "umount", root); err != nil {
		return nil, err
	}
	err = command(ctx, nil, "", "mount", "-o", "loop,ro", l.ext4Image(), root)
	return &mounted{root: root, finish: func() error { return nil }}, err
}}

func (l *lab) ext4Image() string { return filepath.Join(l.dir, "ext4.image") }

// manyPerFolder is how many of the many files are in one folder.
const manyPerFolder = 1000

// makeMany makes the file system and fills it. It needs root, as loop devices
// do. The few bytes of a file lie in its inode (inline_data), which spares the
// image a block each, and makes no difference to who asks for sizes.
func (l *lab) makeMany() (string, error) {
	ctx := context.Background()
	if err := os.WriteFile(l.ext4Image(), nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(l.ext4Image(), 1<<30+int64(l.config.many)*1024); err != nil {
		return "", err
	}
	if err := command(ctx, nil, "", "mkfs.ext4", "-q", "-O", "inline_data", "-I", "256", "-N", strconv.Itoa(l.config.many*11/10+10_000),
		"-E", "lazy_itable_init=0,lazy_journal_init=0", l.ext4Image()); err != nil {
		return "", err
	}
	root, err := l.newDir("ext4")
	if err != nil {
		return "", err
	}
	if err := command(ctx, nil, "", "mount", "-o", "loop", l.ext4Image(), root); err != nil {
		return "", err
	}
	l.atEnd(func() error { return command(context.Background(), nil, "", "umount", root) })
	data := []byte("a small file's few bytes, all the same\n")
	for i := range l.config.many {
		if err := writeInFolders(root, i, manyPerFolder, data); err != nil {
			return "", err
		}
	}
	return root, nil
}
