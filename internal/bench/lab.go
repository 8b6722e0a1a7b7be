package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"cloister/internal/azurite"
	"cloister/internal/cleanroom"
)

// lab is what rows share. Each part is made when it is first asked for, and
// goes when the lab closes.
type lab struct {
	config
	dir  string
	undo []func() error

	// source is the folder of the inputs: large/large, and small/ with the
	// small files.
	source func() (string, error)
	// azurite is the server that holds what is read.
	azurite func() (*azurite.Server, error)
	// distant is the same server through the proxy.
	distant func() (*azurite.Server, error)

	key          func() (string, error) // the KEYFILE
	volume       func() (string, error) // source, sealed in a directory
	blobVolume   func() (string, error) // source, sealed in Azurite: container and prefix
	manyTree     func() (string, error) // the folder of many files, on ext4
	manyVolume   func() (string, error) // the same sealed in a directory
	manyBlob     func() (string, error) // and in Azurite
	emptyVolume  func() (string, error)
	gocryptfs    func() (string, error) // source in gocryptfs: the cipher folder
	rclone       func() ([]string, error)
	restic       func() ([]string, error)
	plainBlob    func() (*remote, error) // the large file as it is
	manifestBlob func() (*remote, error) // the manifest of manyBlob
	repository   func() (string, error)
	archive      func() (string, error)
	room         func() (*cleanroom.Room, error) // ready to run
	image        func() (*hosted, error)         // in a registry of this process
	entrances    func() (*entrances, error)      // to an application in this process
	ledger       func() (*servedLog, error)      // of many entries, served
}

func newLab(c config) (*lab, error) {
	dir, err := os.MkdirTemp(c.dir, "cloister-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{config: c, dir: dir}
	l.atEnd(func() error { return os.RemoveAll(dir) })
	l.source = sync.OnceValues(l.makeSource)
	l.azurite = sync.OnceValues(l.launchAzurite)
	l.distant = sync.OnceValues(l.makeDistant)
	l.key = sync.OnceValues(l.makeKey)
	l.volume = sync.OnceValues(l.sealSource)
	l.blobVolume = sync.OnceValues(l.uploadSource)
	l.manyTree = sync.OnceValues(l.makeMany)
	l.manyVolume = sync.OnceValues(l.sealMany)
	l.manyBlob = sync.OnceValues(l.uploadMany)
	l.emptyVolume = sync.OnceValues(l.sealEmpty)
	l.gocryptfs = sync.OnceValues(l.fillGocryptfs)
	l.rclone = sync.OnceValues(l.fillRclone)
	l.restic = sync.OnceValues(l.fillRestic)
	l.plainBlob = sync.OnceValues(l.uploadPlain)
	l.manifestBlob = sync.OnceValues(l.findManifest)
	l.repository = sync.OnceValues(l.makeRepository)
	l.archive = sync.OnceValues(l.makeArchive)
	l.room = sync.OnceValues(l.makeRoom)
	l.image = sync.OnceValues(l.pushImage)
	l.entrances = sync.OnceValues(l.openEntrances)
	l.ledger = sync.OnceValues(l.serveLog)
	return l, nil
}

// atEnd has the lab undo something when it closes, the last thing first.
func (l *lab) atEnd(f func() error) { l.undo = append(l.undo, f) }

func (l *lab) close() {
	for _, f := range slices.Backward(l.undo) {
		if err := f(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: cleaning up:", err)
		}
	}
}

// newDir makes a folder that nobody has used.
func (l *lab) newDir(name string) (string, error) {
	return os.MkdirTemp(l.dir, name+"-")
}

func (l *lab) launchAzurite() (*azurite.Server, error) {
	s, err := azurite.Launch(context.Background(), nil)
	if err == nil {
		l.atEnd(func() error { s.Close(); return nil })
	}
	return s, err
}

// makeDistant is the server at a distance: 10 ms away, 10 MiB/s a connection.
func (l *lab) makeDistant() (*azurite.Server, error) {
	s, err := l.azurite()
	if err != nil {
		return nil, err
	}
	p, err := startProxy(strings.TrimPrefix(s.Endpoint, "http://"), distance)
	if err != nil {
		return nil, err
	}
	l.atEnd(p.close)
	return &azurite.Server{Endpoint: "http://" + p.address()}, nil
}

func (l *lab) program() string { return filepath.Join(l.bin, "cloister") }

// command runs a program to its end, with additions to the environment and a
// text for its standard input.
func command(ctx context.Context, env []string, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w; `make bench` installs it", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
