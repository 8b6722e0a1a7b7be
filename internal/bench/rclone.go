package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"cloister/internal/azurite"
)

// rclone is the peer for a store in Azurite: a crypt over an azureblob remote,
// with names and contents encrypted. It shows the inputs.
//
// Options fair to it: no cache of the VFS for reading, as a cold read pays for
// one and gains nothing; listings and attributes kept, as nothing changes; the
// kernel's read-ahead at 1 MiB.
var rclone = rcloneWith()

// rcloneRandom is told to ask for little at a time: with its default, each
// random read begins a request of 128 MiB.
var rcloneRandom = rcloneWith("--vfs-read-chunk-size=128Ki", "--buffer-size=0")

func rcloneWith(flags ...string) system {
	return system{strings.Join(append([]string{"rclone crypt"}, flags...), " "), func(ctx context.Context, l *lab) (*mounted, error) {
		env, err := l.rclone()
		if err != nil {
			return nil, err
		}
		dir, err := l.newDir("mount")
		if err != nil {
			return nil, err
		}
		args := append([]string{"mount", "--read-only", "--vfs-cache-mode", "off",
			"--dir-cache-time", "1h", "--attr-timeout", "1h", "--max-read-ahead", "1Mi"}, flags...)
		return mountPeer(ctx, dir, env, "rclone", append(args, "crypt:", dir)...)
	}}
}

// rcloneNew is an empty one to write to, on a server of its own, with the cache
// that writing needs: on tmpfs, given to 16 uploads 1 ms after a file is closed.
// (With 0s rclone 1.60 says that nothing waits while most is not uploaded: 1,398
// of 5,000 blobs were there.) All is in the store when it has nothing to upload any more, and that
// the store has as many blobs as files were written is checked behind the clock.
var rcloneNew = system{"rclone crypt", func(ctx context.Context, l *lab) (*mounted, error) {
	s, err := azurite.Launch(ctx, nil)
	if err != nil {
		return nil, err
	}
	m, err := l.mountRcloneNew(ctx, s)
	if err != nil {
		s.Close()
		return nil, err
	}
	finish := m.finish
	m.finish = func() error {
		defer s.Close()
		return errors.Join(finish(), hasBlobs(ctx, s, l.files))
	}
	return m, nil
}}

// hasBlobs fails where rclone has not made a blob of each of so many files.
func hasBlobs(ctx context.Context, s *azurite.Server, files int) error {
	c, err := connect(s, rcloneContainer)
	if err != nil {
		return err
	}
	blobs := 0
	for pages := c.NewListBlobsFlatPager(nil); pages.More(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		blobs += len(page.Segment.BlobItems)
	}
	if blobs < files {
		return fmt.Errorf("rclone said that nothing waits, and %d blobs of %d files are in the store", blobs, files)
	}
	return nil
}

const rcloneContainer = "rclone"

func (l *lab) mountRcloneNew(ctx context.Context, s *azurite.Server) (*mounted, error) {
	env, err := rcloneRemotes(ctx, s)
	if err != nil {
		return nil, err
	}
	dir, err := l.newDir("mount")
	if err != nil {
		return nil, err
	}
	cache, err := l.newDir("rclone-cache")
	if err != nil {
		return nil, err
	}
	control, err := freeAddress()
	if err != nil {
		return nil, err
	}
	m, err := mountPeer(ctx, dir, env, "rclone", "mount", "--vfs-cache-mode", "writes", "--vfs-write-back", "1ms", "--transfers", "16",
		"--cache-dir", cache, "--dir-cache-time", "1h", "--attr-timeout", "1h", "--log-level", "ERROR",
		"--rc", "--rc-no-auth", "--rc-addr", control, "crypt:", dir)
	if err != nil {
		return nil, err
	}
	unmount := m.finish
	m.settle = func() error { return awaitUploads(ctx, control) }
	m.finish = func() error { return errors.Join(m.settle(), unmount(), os.RemoveAll(cache)) }
	return m, nil
}

// awaitUploads asks rclone until nothing waits for its upload.
func awaitUploads(ctx context.Context, control string) error {
	for ctx.Err() == nil {
		waiting, err := uploads(control)
		if err != nil || waiting == 0 {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}

// uploads returns how many files rclone has still to upload.
func uploads(control string) (int, error) {
	resp, err := http.Post("http://"+control+"/vfs/stats", "application/json", strings.NewReader("{}"))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats struct {
		DiskCache *struct{ UploadsInProgress, UploadsQueued int }
	}
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil || stats.DiskCache == nil {
		return 0, fmt.Errorf("rclone does not say what it has to upload (%s): %w", resp.Status, err)
	}
	return stats.DiskCache.UploadsInProgress + stats.DiskCache.UploadsQueued, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// rcloneRemotes returns the environment that defines the remotes az:, the
// server, and crypt:, the encrypted one in it.
func rcloneRemotes(ctx context.Context, s *azurite.Server) ([]string, error) {
	obscure := exec.CommandContext(ctx, "rclone", "obscure", "-")
	obscure.Stdin = strings.NewReader("bench")
	password, err := obscure.Output()
	if err != nil {
		return nil, fmt.Errorf("rclone: %w; `make bench` installs it", err)
	}
	return []string{
		"RCLONE_CONFIG=/dev/null",
		// The emulator's account, and its URL although "endpoint" alone would
		// be for the cloud's.
		"RCLONE_CONFIG_AZ_TYPE=azureblob", "RCLONE_CONFIG_AZ_USE_EMULATOR=true",
		"RCLONE_CONFIG_AZ_ENDPOINT=" + s.Endpoint + "/" + azurite.Account,
		"RCLONE_CONFIG_CRYPT_TYPE=crypt", "RCLONE_CONFIG_CRYPT_REMOTE=az:" + rcloneContainer + "/crypt",
		"RCLONE_CONFIG_CRYPT_PASSWORD=" + strings.TrimSpace(string(password)),
	}, nil
}

func (l *lab) fillRclone() ([]string, error) {
	source, err := l.source()
	if err != nil {
		return nil, err
	}
	s, err := l.azurite()
	if err != nil {
		return nil, err
	}
	env, err := rcloneRemotes(context.Background(), s)
	if err != nil {
		return nil, err
	}
	return env, command(context.Background(), env, "", "rclone", "copy", "--transfers", "16", source, "crypt:")
}
