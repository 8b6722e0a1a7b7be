package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"cloister/internal/azurite"
)

// volume is where a volume of ours is, and what a command needs in its
// environment to open it.
type volume struct {
	location string
	env      []string
	discard  func() error // of one made for one turn; else nil
}

// place finds a volume, or a place for a new one.
type place func(ctx context.Context, l *lab) (volume, error)

// cloister is `cloister mount` of an input volume.
func cloister(at place, flags ...string) system {
	return system{"Cloister", func(ctx context.Context, l *lab) (*mounted, error) { return mountVolume(ctx, l, at, flags) }}
}

// cloisterOutput is a new output volume.
func cloisterOutput(at place, flags ...string) system {
	return cloister(at, append([]string{"--output"}, flags...)...)
}

func mountVolume(ctx context.Context, l *lab, at place, flags []string) (*mounted, error) {
	key, err := l.key()
	if err != nil {
		return nil, err
	}
	v, err := at(ctx, l)
	if err != nil {
		return nil, err
	}
	dir, err := l.newDir("mount")
	if err != nil {
		return nil, err
	}
	args := append(append([]string{"mount", "--key", key}, flags...), v.location, dir)
	cmd := daemon(ctx, v.env, l.program(), args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	settle := sync.OnceValue(func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, stdout)
		return cmd.Wait()
	})
	finish := func() error {
		err := settle()
		if v.discard != nil {
			err = errors.Join(err, v.discard())
		}
		return errors.Join(err, os.Remove(dir))
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready "+dir {
		return nil, errors.Join(fmt.Errorf("cloister mount printed %q, not that it is ready", lines.Text()), finish())
	}
	return &mounted{root: dir, pid: cmd.Process.Pid, settle: settle, finish: finish}, nil
}

// Places of the volumes that are read.

func inDirectory(dir func(l *lab) (string, error)) place {
	return func(_ context.Context, l *lab) (volume, error) {
		location, err := dir(l)
		return volume{location: location}, err
	}
}

// inAzurite is a blob volume, seen through a server: the lab's own, or the
// same at a distance.
func inAzurite(path func(l *lab) (string, error), server func(l *lab) (*azurite.Server, error)) place {
	return func(_ context.Context, l *lab) (volume, error) {
		name, err := path(l)
		if err != nil {
			return volume{}, err
		}
		s, err := server(l)
		if err != nil {
			return volume{}, err
		}
		return blobVolume(s, name), nil
	}
}

func blobVolume(s *azurite.Server, path string) volume {
	container, prefix, _ := strings.Cut(path, "/")
	return volume{location: s.URL(container, prefix), env: []string{"AZURE_STORAGE_CONNECTION_STRING=" + s.ConnectionString()}}
}

func near(l *lab) (*azurite.Server, error) { return l.azurite() }
func far(l *lab) (*azurite.Server, error)  { return l.distant() }

func sourceVolume(l *lab) (string, error)     { return l.volume() }
func sourceBlobVolume(l *lab) (string, error) { return l.blobVolume() }
func manyVolume(l *lab) (string, error)       { return l.manyVolume() }
func manyBlobVolume(l *lab) (string, error)   { return l.manyBlob() }
func emptyVolume(l *lab) (string, error)      { return l.emptyVolume() }

// Places for new volumes.

func newDirectory(_ context.Context, l *lab) (volume, error) {
	dir, err := l.newDir("volume")
	return volume{location: filepath.Join(dir, "volume"), discard: func() error { return os.RemoveAll(dir) }}, err
}

// newInAzurite has a server of its own, since a server does not give back at
// once the memory of what is deleted.
func newInAzurite(ctx context.Context, _ *lab) (volume, error) {
	s, err := azurite.Launch(ctx, nil)
	if err != nil {
		return volume{}, err
	}
	v := blobVolume(s, "bench/volume")
	v.discard = func() error { s.Close(); return nil }
	return v, nil
}

// encrypt is `cloister prep encrypt` of a folder into a new volume.
func encrypt(folder func(l *lab) (string, error), at place, figure func(seconds float64, c config) float64) side {
	return side{"Cloister", func(ctx context.Context, l *lab) (v float64, err error) {
		source, err := folder(l)
		if err != nil {
			return 0, err
		}
		key, err := l.key()
		if err != nil {
			return 0, err
		}
		to, err := at(ctx, l)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, to.discard()) }()
		seconds, err := timed(func() error {
			return command(ctx, to.env, "", l.program(), "prep", "encrypt", "--key", key, source, to.location)
		})
		return figure(seconds, l.config), err
	}}
}

// What the lab makes for it.

func (l *lab) makeKey() (string, error) {
	key := filepath.Join(l.dir, "KEYFILE")
	return key, command(context.Background(), nil, "", l.program(), "prep", "keygen", key)
}

func (l *lab) sealSource() (string, error) { return l.seal(l.source) }
func (l *lab) sealMany() (string, error)   { return l.seal(l.manyTree) }

func (l *lab) sealEmpty() (string, error) {
	return l.seal(func() (string, error) { return l.newDir("empty") })
}

// seal makes a volume of a folder, in a directory.
func (l *lab) seal(folder func() (string, error)) (string, error) {
	source, err := folder()
	if err != nil {
		return "", err
	}
	key, err := l.key()
	if err != nil {
		return "", err
	}
	dir, err := l.newDir("volume")
	if err != nil {
		return "", err
	}
	return dir, command(context.Background(), nil, "", l.program(), "prep", "encrypt", "--key", key, source, dir)
}

func (l *lab) uploadSource() (string, error) { return l.upload(l.volume, "source/volume") }
func (l *lab) uploadMany() (string, error)   { return l.upload(l.manyVolume, "many/volume") }

// upload copies a volume to Azurite and returns its container and prefix.
func (l *lab) upload(from func() (string, error), to string) (string, error) {
	dir, err := from()
	if err != nil {
		return "", err
	}
	s, err := l.azurite()
	if err != nil {
		return "", err
	}
	v := blobVolume(s, to)
	return to, command(context.Background(), v.env, "", l.program(), "prep", "upload", dir, v.location)
}
