package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// contender is a file system to measure.
type contender interface {
	name() string
	// seal gives it the bytes of a folder, once.
	seal(ctx context.Context, source string) error
	// mount shows them, with nothing cached, until unmount.
	mount(ctx context.Context) (root string, unmount func() error, err error)
}

// cloister is what we measure: `cloister mount` of a volume in a directory.
type cloister struct{ program, key, volume, dir string }

func newCloister(c config) *cloister {
	return &cloister{program: filepath.Join(c.bin, "cloister"), key: filepath.Join(c.dir, "KEYFILE"),
		volume: filepath.Join(c.dir, "volume"), dir: filepath.Join(c.dir, "cloister")}
}

func (*cloister) name() string { return "cloister" }

func (c *cloister) seal(ctx context.Context, source string) error {
	if err := command(ctx, "", c.program, "prep", "keygen", c.key); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return err
	}
	return command(ctx, "", c.program, "prep", "encrypt", "--key", c.key, source, c.volume)
}

func (c *cloister) mount(ctx context.Context) (string, func() error, error) {
	cmd := exec.CommandContext(ctx, c.program, "mount", "--key", c.key, c.volume, c.dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready "+c.dir {
		cmd.Process.Kill()
		cmd.Wait()
		return "", nil, fmt.Errorf("cloister mount printed %q, not that it is ready", lines.Text())
	}
	return c.dir, func() error {
		cmd.Process.Signal(syscall.SIGTERM)
		io.Copy(io.Discard, stdout)
		return cmd.Wait()
	}, nil
}

// gocryptfs is the peer for a store in a directory.
type gocryptfs struct{ password, cipher, dir string }

func newGocryptfs(c config) *gocryptfs {
	return &gocryptfs{password: "bench", cipher: filepath.Join(c.dir, "gocryptfs.cipher"), dir: filepath.Join(c.dir, "gocryptfs")}
}

func (*gocryptfs) name() string { return "gocryptfs" }

func (g *gocryptfs) seal(ctx context.Context, source string) error {
	for _, dir := range []string{g.cipher, g.dir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	// scryptn 10: the time to unlock is not what is measured.
	if err := command(ctx, g.password, "gocryptfs", "-init", "-q", "-scryptn", "10", g.cipher); err != nil {
		return err
	}
	root, unmount, err := g.mount(ctx)
	if err != nil {
		return err
	}
	if err := command(ctx, "", "cp", "-r", source+"/.", root); err != nil {
		return err
	}
	return unmount()
}

func (g *gocryptfs) mount(ctx context.Context) (string, func() error, error) {
	if err := command(ctx, g.password, "gocryptfs", "-q", "-noprealloc", g.cipher, g.dir); err != nil {
		return "", nil, err
	}
	return g.dir, func() error { return command(ctx, "", "fusermount3", "-u", g.dir) }, nil
}

func command(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
