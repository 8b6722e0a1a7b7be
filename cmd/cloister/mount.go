//go:build linux

package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"cloister/fs"
	"cloister/fs/format"
	"cloister/fs/mount"
	"cloister/fs/store"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/internal/memory"

	urfave "github.com/urfave/cli/v2"
)

func mountCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "mount",
		Usage:     "show a volume as plain files in a directory, until interrupted",
		ArgsUsage: "VOLUME DIR",
		Flags: append(append(openerFlags(), storeFlags()...),
			&urfave.StringFlag{Name: "reference", Usage: "refuse anything but the state of the volume that `REF` names"},
			&urfave.BoolFlag{Name: "output", Usage: "mount writable; makes the volume if there is none, and prints its reference at the end"},
			recipientFlag(), signFlag(),
			&urfave.StringFlag{Name: "sync", Usage: "with `close`, closing a file written to --output returns when it is durable"},
			&urfave.StringFlag{Name: "max-size", Usage: "with --output, the files may have `SIZE` in all, such as 10GiB; more is \"no space left\""},
			&urfave.BoolFlag{Name: "log-names", Usage: "let messages about failed reads name the files; without, objects and segments only"},
			memory.AllowSwapFlag(),
			&urfave.StringFlag{Name: "memory", Usage: "keep, read ahead and hold unwritten at most `SIZE` of the volume, such as 512MiB", Value: "256MiB"},
		),
		Action: runMount,
	}
}

func runMount(c *urfave.Context) error {
	// From here on: the first signal cancels what is under way, the second one
	// must not be lost while the mount is taken away.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	args, err := cli.Args(c, "VOLUME", "DIR")
	if err != nil {
		return err
	}
	o, err := mountOptions(c)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	from, err := storeOptions(c, log)
	if err != nil {
		return err
	}
	if err := mount.Check(); err != nil {
		return err
	}
	if c.Bool("output") {
		// What is written lies in memory in the clear until it is sealed.
		if err := memory.Protect(log, c.Bool("allow-swap")); err != nil {
			return err
		}
	}
	key, err := readOpener(c)
	if err != nil {
		return err
	}
	defer key.Destroy()
	if (c.IsSet("recipient") || c.IsSet("sign")) && !c.Bool("output") {
		return fault.Errorf(fault.Usage, "leave them out, or mount with --output", "--recipient and --sign are about what is written")
	}
	if c.Bool("output") {
		return mountOutput(c, args[0], args[1], key.DEK, o, signals)
	}
	s, err := store.Open(c.Context, args[0], from)
	if err != nil {
		return fmt.Errorf("opening the volume: %w", err)
	}
	defer s.Close()
	if o.Reference, err = checkWriter(c, s, o.Reference); err != nil {
		return err
	}
	v, err := fs.Open(c.Context, s, key.DEK, o)
	if err != nil {
		return err
	}
	defer v.Close()
	key.Destroy() // not needed while serving
	limitMemory(o.Memory)
	m, err := mount.Input(args[1], v, mount.Options{Logger: log, Names: c.Bool("log-names")})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, "ready", m.Dir())
	return serve(m, signals, c.App.ErrWriter)
}

func mountOptions(c *urfave.Context) (o fs.Options, err error) {
	if o.Memory, err = parseSize(c.String("memory")); err != nil {
		return o, fmt.Errorf("--memory: %w", err)
	}
	if text := c.String("reference"); text != "" {
		ref, err := format.ParseReference(text)
		if err != nil {
			return o, err
		}
		o.Reference = &ref
	}
	return o, nil
}

// limitMemory keeps the collector from letting garbage grow as large as what
// is kept: beyond the manifest, which is there by now, memory is cached bytes
// and a margin for replies.
func limitMemory(cached int64) {
	const margin = 64 << 20 // 64 replies of 1 MiB: what the kernel has in flight
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	debug.SetMemoryLimit(int64(now.HeapAlloc) + cached + margin)
}

// busyRetry is how often a mount that is in use is tried again after the first
// signal.
const busyRetry = 500 * time.Millisecond

// serve waits for the mount to end: unmounted by somebody, or after the first
// signal once nobody uses it, or at a second signal.
func serve(m *mount.Mount, signals <-chan os.Signal, stderr io.Writer) error {
	select {
	case <-m.Done():
		return nil
	case <-signals:
		return unmount(m, signals, stderr)
	}
}

func unmount(m *mount.Mount, signals <-chan os.Signal, stderr io.Writer) error {
	said := ""
	for {
		err := m.Unmount()
		if err == nil {
			return nil
		}
		if fault.KindOf(err) != fault.Conflict {
			return err
		}
		if text := err.Error(); text != said {
			said = text
			fmt.Fprintf(stderr, "%s\n  waiting until it is free; a second signal detaches it, and what those programs read then fails\n", cli.Printable(text))
		}
		select {
		case <-m.Done():
			return nil
		case <-time.After(busyRetry):
		case <-signals:
			return detach(m)
		}
	}
}

// detach takes a busy mount away and says what that means.
func detach(m *mount.Mount) error {
	if err := m.Detach(); err != nil {
		return err
	}
	return fault.Errorf(fault.Incomplete, "end the programs that hold it: pages they have mapped or cached stay readable to them",
		"%s was detached while in use: it is out of the tree, and reads through what programs kept open fail from now on", m.Dir())
}
