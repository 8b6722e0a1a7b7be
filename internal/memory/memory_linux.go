// Package memory keeps what a process holds in its memory out of everything
// else: the keys of a volume, and what is written to one and not yet sealed.
//
// Life of a call: a binary that is about to read a key calls Protect. It turns
// core files off, closes the process to others of its user, refuses where the
// machine swaps, unless told, and locks memory where no limit is in the way.
package memory

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"

	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// AllowSwapFlag is the flag whose value Protect is given.
func AllowSwapFlag() urfave.Flag {
	return &urfave.BoolFlag{Name: "allow-swap", Usage: "start although this machine swaps: keys and plaintext may then be written to its disk"}
}

// Protect keeps keys where they are, in the memory of this process: out of core
// files, out of reach of other processes of its user, and off a swap device. A
// program it starts inherits only that it leaves no core files either. Where the
// machine swaps, or does not say, the error is of kind fault.Refused; with
// allowSwap log is told instead.
func Protect(log *slog.Logger, allowSwap bool) error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core files off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keeping this process from being read: %w", err)
	}
	if err := refuseSwap("/proc/swaps"); err != nil {
		if !allowSwap {
			return err
		}
		log.Warn("starting all the same", "because", "--allow-swap", "error", err)
	}
	// A limit on locked memory, once met, would end the process in mid-run; so
	// memory is locked where there is none, which is so for root.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("reading the limit on locked memory: %w", err)
	}
	if os.Geteuid() != 0 && limit.Cur != unix.RLIM_INFINITY {
		log.Info("memory is not locked: the limit on locked memory is in the way", "bytes", limit.Cur)
		return nil
	}
	// Locked as it is touched: a Go program reserves far more than it uses.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		log.Warn("memory is not locked", "error", err)
	}
	return nil
}

// refuseSwap returns an error unless the table of swap devices, as proc(5) has
// it, is there and empty but for its heading.
func refuseSwap(table string) error {
	const hint = "turn swap off with `swapoff -a`; or, where no secret is at stake, give --allow-swap"
	raw, err := os.ReadFile(table)
	if err != nil {
		return fault.Errorf(fault.Refused, hint, "finding out whether this machine swaps: %w", err)
	}
	if lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n")); len(lines) > 1 {
		device, _, _ := bytes.Cut(lines[1], []byte(" "))
		return fault.Errorf(fault.Refused, hint, "this machine swaps to %s: what is in memory may be written there in the clear", device)
	}
	return nil
}
