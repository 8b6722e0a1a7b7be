package main

import (
	"context"
	"errors"
	"os"
)

const gocryptfsPassword = "bench"

// gocryptfs is the peer for a store in a directory. It shows the inputs.
var gocryptfs = system{"gocryptfs", func(ctx context.Context, l *lab) (*mounted, error) {
	cipher, err := l.gocryptfs()
	if err != nil {
		return nil, err
	}
	return l.mountGocryptfs(ctx, cipher)
}}

// gocryptfsNew is one with nothing in it.
var gocryptfsNew = system{"gocryptfs", func(ctx context.Context, l *lab) (*mounted, error) {
	cipher, err := l.newGocryptfs(ctx)
	if err != nil {
		return nil, err
	}
	m, err := l.mountGocryptfs(ctx, cipher)
	if err != nil {
		return nil, err
	}
	unmount := m.finish
	m.finish = func() error { return errors.Join(unmount(), os.RemoveAll(cipher)) }
	return m, nil
}}

// newGocryptfs makes a cipher folder. scryptn 10: the time to unlock is not
// what is measured.
func (l *lab) newGocryptfs(ctx context.Context) (string, error) {
	cipher, err := l.newDir("gocryptfs")
	if err != nil {
		return "", err
	}
	return cipher, command(ctx, nil, gocryptfsPassword, "gocryptfs", "-init", "-q", "-scryptn", "10", cipher)
}

// mountGocryptfs leaves out what it does for disks and gains nothing on tmpfs.
func (l *lab) mountGocryptfs(ctx context.Context, cipher string) (*mounted, error) {
	dir, err := l.newDir("mount")
	if err != nil {
		return nil, err
	}
	if err := command(ctx, nil, gocryptfsPassword, "gocryptfs", "-q", "-noprealloc", cipher, dir); err != nil {
		return nil, err
	}
	return &mounted{root: dir, finish: func() error {
		return errors.Join(command(context.WithoutCancel(ctx), nil, "", "fusermount3", "-u", dir), os.Remove(dir))
	}}, nil
}

func (l *lab) fillGocryptfs() (string, error) {
	ctx := context.Background()
	source, err := l.source()
	if err != nil {
		return "", err
	}
	cipher, err := l.newGocryptfs(ctx)
	if err != nil {
		return "", err
	}
	m, err := l.mountGocryptfs(ctx, cipher)
	if err != nil {
		return "", err
	}
	err = command(ctx, nil, "", "cp", "-r", source+"/.", m.root)
	return cipher, errors.Join(err, m.finish())
}
