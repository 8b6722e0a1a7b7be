//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"cloister/fs"
	"cloister/fs/format"
	"cloister/fs/mount"
	"cloister/internal/fault"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

// outputOptions are a writable mount's; a volume that is not there is made, its
// root the caller's.
func outputOptions(c *urfave.Context, o fs.Options, log *slog.Logger) (fs.OutputOptions, error) {
	maxSize := int64(0)
	if text := c.String("max-size"); text != "" {
		var err error
		if maxSize, err = parseSize(text); err != nil {
			return fs.OutputOptions{}, fmt.Errorf("--max-size: %w", err)
		}
	}
	out := fs.OutputOptions{
		Reference: o.Reference, Memory: o.Memory, Create: o.Reference == nil, Log: log,
		MaxSize: maxSize,
		Root:    format.Attr{Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())},
	}
	var err error
	if out.Recipients, err = readRecipients(c); err != nil {
		return out, err
	}
	switch sync := c.String("sync"); sync {
	case "":
	case "close":
		out.SyncClose = true
	default:
		return out, fault.Errorf(fault.Usage, "give --sync close, or leave it out", "--sync %s is not known", sync)
	}
	return out, nil
}

// mountOutput serves an output volume until the mount ends, and closes it: the
// last line on stdout is the reference of what was written, and there only if
// all of it is durable. A store that failed meanwhile is in the exit code even
// so: those who had closed their files cannot be told any other way.
func mountOutput(c *urfave.Context, volume, dir string, key fs.KeyFunc, o fs.Options, signals <-chan os.Signal) error {
	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	opts, err := outputOptions(c, o, log)
	if err != nil {
		return err
	}
	s, err := openStore(c, volume, opts.Create)
	if err != nil {
		return err
	}
	defer s.Close()
	if opts.Reference, err = checkWriter(c, s, opts.Reference); err != nil {
		return err
	}
	signer, err := readSigner(c)
	if err != nil {
		return err
	}
	if signer != nil {
		defer signer.Destroy()
	}
	v, err := fs.OpenOutput(c.Context, s, key, opts)
	if err != nil {
		return err
	}
	limitMemory(o.Memory)
	if err = recovered(c, s, v.Recovered(), signer); err == nil {
		err = serveOutput(c, dir, v, log, signals)
	}
	ref, closeErr := v.Close(context.WithoutCancel(c.Context))
	if closeErr != nil {
		return errors.Join(err, closeErr)
	}
	fmt.Fprintln(c.App.Writer, ref)
	signed := sign(context.WithoutCancel(c.Context), s, ref, signer)
	return errors.Join(err, signed, v.Failed())
}

// recovered says what an earlier writer had left, and signs the epoch that was
// made of it: nobody else will.
func recovered(c *urfave.Context, s prep.Store, r *fs.Recovery, signer signingParty) error {
	if r == nil {
		return nil
	}
	sayRecovered(c.App.ErrWriter, r)
	return sign(c.Context, s, r.Reference, signer)
}

func serveOutput(c *urfave.Context, dir string, v *fs.Output, log *slog.Logger, signals <-chan os.Signal) error {
	m, err := mount.Output(dir, v, mount.Options{Logger: log})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer, "ready", m.Dir())
	return serve(m, signals, c.App.ErrWriter)
}
