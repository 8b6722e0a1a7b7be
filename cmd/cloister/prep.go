package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"cloister/fs/format"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/prep"
	"cloister/prep/keyfile"

	urfave "github.com/urfave/cli/v2"
)

// prepCommand is "cloister prep": the owner's side of volumes.
func prepCommand() *urfave.Command {
	return &urfave.Command{
		Name:  "prep",
		Usage: "prepare data: seal a folder, upload, check and decrypt volumes",
		Description: "A VOLUME is a directory, or a container and prefix of Azure's blob service:\n" +
			"https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX. Credentials come from a\n" +
			"SAS in the URL, AZURE_STORAGE_CONNECTION_STRING, or the identity you are signed\n" +
			"in with.",
		Subcommands: []*urfave.Command{
			keygenCommand(), estimateCommand(), encryptCommand(), rekeyCommand(), uploadCommand(), decryptCommand(), inspectCommand(), verifyCommand(), pruneCommand(), importCommand(), recoverCommand(), prepSinkCommand(), mergeCommand(), escrowCommand(),
		},
	}
}

func referenceFlag(usage string) urfave.Flag {
	return &urfave.StringFlag{Name: "reference", Usage: usage}
}

// reference returns what --reference names, or nil.
func reference(c *urfave.Context) (*format.Reference, error) {
	text := c.String("reference")
	if text == "" {
		return nil, nil
	}
	ref, err := format.ParseReference(text)
	if err != nil {
		return nil, fmt.Errorf("--reference: %w", err)
	}
	return &ref, nil
}

func keygenCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "keygen",
		Usage:     "make a root secret in a new file, KEYFILE, of mode 0600",
		ArgsUsage: "KEYFILE",
		Description: "From the root secret the key of every volume sealed with it is derived; it never\n" +
			"leaves the owner. Without KEYFILE, and its passphrase if it has one, the volumes\n" +
			"are lost: keep a copy.\n\nJSON: keyfile, passphrase (whether it has one).",
		Flags: []urfave.Flag{
			&urfave.BoolFlag{Name: "passphrase", Usage: "protect the file with a passphrase, asked for twice on the terminal"},
			&urfave.StringFlag{Name: "passphrase-file", Usage: "protect the file with the passphrase in `FILE`, or from /dev/fd/N"},
			jsonFlag(),
		},
		Action: action(runKeygen, "KEYFILE"),
	}
}

func runKeygen(c *urfave.Context, args []string) error {
	p, err := newPassphrase(c)
	if err != nil {
		return err
	}
	if p != nil {
		defer p.Destroy()
	}
	secret := format.NewRootSecret()
	defer secret.Destroy()
	if err := keyfile.Write(args[0], secret, p); err != nil {
		return err
	}
	result := struct {
		KeyFile    string `json:"keyfile"`
		Passphrase bool   `json:"passphrase"`
	}{args[0], p != nil}
	return printResult(c, result, func(_, stderr io.Writer) {
		fmt.Fprintf(stderr, "made %s; keep a copy of it: without it what is sealed with it is lost\n", cli.Printable(args[0]))
	})
}

func encryptCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "encrypt",
		Usage:     "seal a folder as the next epoch of a volume, and print the volume reference",
		ArgsUsage: "SRC VOLUME",
		Description: "Makes VOLUME if there is none. Files that have not changed since the newest\n" +
			"epoch, by size and modification time, are not sealed again. A run that was\n" +
			"interrupted is gone on with by running it again. The reference, alone on\n" +
			"standard output, is what a contract pins: keep it.\n\n" +
			"JSON: reference, volume, epoch, files, directories, others, bytes, reused_files,\n" +
			"resumed_objects, new_objects, sealed_bytes, manifest_bytes.",
		Flags: append(keyFlags(),
			&urfave.BoolFlag{Name: "no-padding", Usage: "do not pad objects: the store sees their sizes to the byte"},
			&urfave.BoolFlag{Name: "checksum", Usage: "tell what has changed by content, fetched from the volume, and not by size and time"},
			&urfave.BoolFlag{Name: "new-key", Usage: "seal the epoch under a new DEK, of the next key version, and what has changed under a new object key; name recipients again"},
			referenceFlag("go on only if the volume's newest epoch is the one that `REF` names"),
			&urfave.StringFlag{Name: "reference-file", Usage: "also write the reference to `FILE`, replacing it"},
			recipientFlag(), signFlag(), jsonFlag()),
		Action: action(runEncrypt, "SRC", "VOLUME"),
	}
}

func runEncrypt(c *urfave.Context, args []string) error {
	source, volume := args[0], args[1]
	previous, err := reference(c)
	if err != nil {
		return err
	}
	if err := checkSource(source, volume); err != nil {
		return err
	}
	recipients, err := readRecipients(c)
	if err != nil {
		return err
	}
	root, err := readKey(c)
	if err != nil {
		return err
	}
	defer root.Destroy()
	s, err := openStore(c, volume, true)
	if err != nil {
		return err
	}
	defer s.Close()
	signer, err := readSigner(c)
	if err != nil {
		return err
	}
	if signer != nil {
		defer signer.Destroy()
	}
	p := startProgress(c, "sealing")
	if isTerminal(c.App.ErrWriter) {
		go func() { p.Total(prep.Measure(source)) }()
	}
	sealed, err := prep.Encrypt(c.Context, s, prep.EncryptOptions{
		Source: source, Root: root, NoPadding: c.Bool("no-padding"), Checksum: c.Bool("checksum"), Previous: previous, NewKey: c.Bool("new-key"), Recipients: recipients, Progress: p})
	p.stop()
	if err != nil {
		return err
	}
	if err := printSealed(c, source, sealed, p); err != nil {
		return err
	}
	if err := writeReference(c.String("reference-file"), sealed.Reference); err != nil {
		return err
	}
	return sign(c.Context, s, sealed.Reference, signer)
}

// checkSource finds out what can be wrong with the folder before anything is
// made.
func checkSource(source, volume string) error {
	info, err := os.Stat(source)
	switch {
	case os.IsNotExist(err):
		return fault.Errorf(fault.NotFound, "check the path", "there is no folder %s", source)
	case err == nil && !info.IsDir():
		return fault.Errorf(fault.Usage, "name a folder", "%s is not a folder", source)
	case strings.Contains(volume, "://"):
		return nil
	}
	return prep.CheckApart(source, volume)
}

func printSealed(c *urfave.Context, source string, r *prep.Sealed, p *progress) error {
	return printResult(c, r, func(stdout, stderr io.Writer) {
		fmt.Fprintf(stderr, "sealed %s as epoch %d of volume %s: %s, %s, %s, %s",
			cli.Printable(source), r.Epoch, r.Volume, count(r.Files, "file"), count(r.Directories, "directory"), count(r.Others, "other"), size(r.Bytes))
		if r.Epoch > 1 {
			fmt.Fprintf(stderr, "; %s unchanged", count(r.ReusedFiles, "file"))
		}
		if r.Resumed > 0 {
			fmt.Fprintf(stderr, "; %s of an interrupted run", count(r.Resumed, "object"))
		}
		fmt.Fprintf(stderr, "; %s of %s and a manifest of %s in %v\n",
			count(r.NewObjects, "new object"), size(r.SealedBytes), size(r.ManifestBytes), p.elapsed())
		fmt.Fprintln(stdout, r.Reference)
	})
}

// writeReference replaces a file with the reference, whole or not at all.
func writeReference(path string, ref format.Reference) error {
	if path == "" {
		return nil
	}
	if err := replaceFile(path, []byte(ref.String()+"\n")); err != nil {
		return fault.Errorf(fault.Incomplete, "the volume is sealed and its reference printed: keep that", "writing the reference: %w", err)
	}
	return nil
}

func uploadCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "upload",
		Usage:     "copy a volume to another store; run again, it goes on where it was interrupted",
		ArgsUsage: "VOLUME_DIR VOLUME_URL",
		Description: "Data goes first and manifests last, so a reader sees whole epochs only. Objects\n" +
			"that are there with the right size are not sent again: they are never changed\n" +
			"once made, and a reader accepts no other bytes.\n\n" +
			"JSON: volume, epochs, objects, bytes (sent), present (found there).",
		Flags:  []urfave.Flag{jsonFlag()},
		Action: action(runUpload, "VOLUME_DIR", "VOLUME_URL"),
	}
}

func runUpload(c *urfave.Context, args []string) error {
	from, err := openStore(c, args[0], false)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := prep.CheckVolume(c.Context, from); err != nil {
		return err
	}
	to, err := openStore(c, args[1], true)
	if err != nil {
		return err
	}
	defer to.Close()
	p := startProgress(c, "uploading")
	r, err := prep.Upload(c.Context, from, to, prep.UploadOptions{Progress: p})
	p.stop()
	if err != nil {
		return err
	}
	return printResult(c, r, func(_, stderr io.Writer) {
		fmt.Fprintf(stderr, "volume %s is at %s: sent %s of %s in %v; %s there before\n",
			r.Volume, to, count(r.Objects, "object"), size(r.Bytes), p.elapsed(), count(r.Present, "object"))
	})
}

func decryptCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "decrypt",
		Usage:     "make the folder again that a volume was sealed from",
		ArgsUsage: "VOLUME DST",
		Description: "DST must not exist, or be an empty folder. It is filled whole or not at all, and\n" +
			"never with a byte that was not authenticated. Devices, and setuid and setgid\n" +
			"bits, are left out unless --special is given; as root, owners are restored.\n\n" +
			"JSON: reference, files, directories, others, bytes, skipped (paths of devices,\n" +
			"escaped as in Go strings).",
		Flags: append(openerFlags(),
			referenceFlag("refuse anything but the state of the volume that `REF` names"),
			&urfave.BoolFlag{Name: "special", Usage: "also make devices, and keep setuid and setgid bits"},
			jsonFlag()),
		Action: action(runDecrypt, "VOLUME", "DST"),
	}
}

func runDecrypt(c *urfave.Context, args []string) error {
	ref, err := reference(c)
	if err != nil {
		return err
	}
	key, err := readOpener(c)
	if err != nil {
		return err
	}
	defer key.Destroy()
	s, err := openStore(c, args[0], false)
	if err != nil {
		return err
	}
	defer s.Close()
	if ref, err = checkWriter(c, s, ref); err != nil {
		return err
	}
	p := startProgress(c, "decrypting")
	r, err := prep.Decrypt(c.Context, s, args[1], prep.DecryptOptions{
		Key: key, Reference: ref, Special: c.Bool("special"), Progress: p})
	p.stop()
	if err != nil {
		return err
	}
	return printResult(c, r, func(_, stderr io.Writer) {
		fmt.Fprintf(stderr, "decrypted epoch %d of volume %s to %s: %s, %s, %s, %s in %v\n",
			r.Reference.Epoch, r.Reference.Volume, cli.Printable(args[1]),
			count(r.Files, "file"), count(r.Directories, "directory"), count(r.Others, "other"), size(r.Bytes), p.elapsed())
		if len(r.Skipped) > 0 {
			fmt.Fprintf(stderr, "left out %s; --special makes them:\n  %s\n", count(len(r.Skipped), "device"), strings.Join(r.Skipped, "\n  "))
		}
	})
}
