package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep/keyfile"

	urfave "github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// keyFlags name the owner's key file and how its passphrase is given. A
// passphrase is never an argument or a variable of the environment: both are
// shown to others.
func keyFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringFlag{Name: "key", Usage: "the owner's `KEYFILE`"},
		passphraseFileFlag(),
	}
}

func passphraseFileFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "passphrase-file", Usage: "read the key file's passphrase from `FILE`, or from /dev/fd/N, instead of the terminal"}
}

// readKey returns the root secret in the file that --key names, the caller's
// to destroy. It asks for a passphrase where the file has one.
func readKey(c *urfave.Context) (*format.RootSecret, error) {
	path := c.String("key")
	if path == "" {
		return nil, fault.Errorf(fault.Usage, "give --key KEYFILE; `cloister prep keygen` makes one", "%s needs the owner's key file", c.Command.HelpName)
	}
	return keyfile.Read(path, func() (*keyfile.Passphrase, error) {
		if file := c.String("passphrase-file"); file != "" {
			return keyfile.ReadPassphrase(file)
		}
		return prompt(c.Context, "Passphrase of "+path+": ")
	})
}

// newPassphrase returns the passphrase for a new key file, or nil if none is
// asked for. One that is typed is typed twice.
func newPassphrase(c *urfave.Context) (*keyfile.Passphrase, error) {
	if file := c.String("passphrase-file"); file != "" {
		return keyfile.ReadPassphrase(file)
	}
	if !c.Bool("passphrase") {
		return nil, nil
	}
	first, err := prompt(c.Context, "Passphrase: ")
	if err != nil {
		return nil, err
	}
	second, err := prompt(c.Context, "The same again: ")
	if err != nil {
		first.Destroy()
		return nil, err
	}
	defer second.Destroy()
	if !first.Equal(second) {
		first.Destroy()
		return nil, fault.Errorf(fault.Usage, "run the command again", "the two passphrases differ")
	}
	return first, nil
}

// prompt reads a passphrase from the terminal, without showing it. A signal
// ends it and gives the terminal back as it was.
func prompt(ctx context.Context, text string) (*keyfile.Passphrase, error) {
	tty, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	fmt.Fprint(tty, text)
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(int(tty.Fd()))
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		fmt.Fprintln(tty)
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return nil, fmt.Errorf("reading the passphrase: %w", a.err)
		}
		return keyfile.NewPassphrase(a.line)
	case <-ctx.Done():
		term.Restore(int(tty.Fd()), before)
		fmt.Fprintln(tty)
		return nil, ctx.Err()
	}
}

// openTerminal opens the terminal that the user sits at, wherever standard
// input comes from.
func openTerminal() (*os.File, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err == nil {
		return tty, nil
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return os.Stdin, nil
	}
	return nil, fault.Errorf(fault.Usage, "give --passphrase-file FILE", "a passphrase is needed, and there is no terminal to ask on")
}

func keyVersionFlag() urfave.Flag {
	return &urfave.UintFlag{Name: "key-version", Usage: "the `VERSION` of the DEK", Value: 1}
}

// keyVersion returns what --key-version gives: versions are 32 bits in the
// format, and begin at 1.
func keyVersion(c *urfave.Context) (uint32, error) {
	v := c.Uint("key-version")
	if v == 0 || uint64(v) > math.MaxUint32 {
		return 0, fault.Errorf(fault.Usage, "key versions begin at 1", "--key-version %d is none", v)
	}
	return uint32(v), nil
}
