package main

import (
	"errors"
	"fmt"
	"io"

	"cloister/internal/fault"
	"cloister/prep/provision"

	urfave "github.com/urfave/cli/v2"
)

func provisionDestroyCommand() *urfave.Command {
	return &urfave.Command{
		Name: "destroy", Usage: "take the clean room's roles, and keys and data if asked; say what is left", ArgsUsage: "VOLUME...",
		Description: "Taking again changes nothing. What differs from what apply makes is left alone.\n" +
			"Keys are soft-deleted: they can be recovered, and their names are taken, until they\n" +
			"are purged. A run that has the keys already keeps them: withdraw consent to stop it.\n" + accessHelp +
			"\nJSON: as of status; changed says what was taken now.",
		Flags: append(ownerFlags(), &urfave.BoolFlag{Name: "keys", Usage: "also delete KEK and wrapped DEK"},
			&urfave.BoolFlag{Name: "data", Usage: "also delete the container, with EVERYTHING in it"}),
		Action: action(func(c *urfave.Context, names []string) error {
			return taking(c, names, func(w *wanted, v provision.Volume) ([]provision.Item, error) {
				return w.owner.vaults.Destroy(c.Context, v, provision.Removal{Keys: c.Bool("keys"), Data: c.Bool("data")})
			})
		}, "--specification", "VOLUME..."),
	}
}

func provisionRevokeCommand() *urfave.Command {
	return &urfave.Command{
		Name: "revoke", Usage: "have no key of these volumes released any more, and leave everything in place", ArgsUsage: "VOLUME...",
		Description: "The clean room's roles are taken and the KEK is disabled, so that no run that starts\n" +
			"from now on has it. A run that has the keys keeps them in its memory until it ends\n" +
			"or consent is withdrawn: `cloister consent withdraw` stops it. --undo enables the KEK\n" +
			"again, and `cloister provision apply` gives the roles.\n" + accessHelp,
		Flags: append(ownerFlags(), &urfave.BoolFlag{Name: "undo", Usage: "enable the KEK again"}),
		Action: action(func(c *urfave.Context, names []string) error {
			return taking(c, names, func(w *wanted, v provision.Volume) ([]provision.Item, error) {
				if c.Bool("undo") {
					return nil, w.owner.vaults.Restore(c.Context, v)
				}
				return w.owner.vaults.Revoke(c.Context, v)
			})
		}, "--specification", "VOLUME..."),
	}
}

// taking goes on with the next volume after a failure, and prints what is left.
func taking(c *urfave.Context, names []string, take func(*wanted, provision.Volume) ([]provision.Item, error)) error {
	w, err := readWanted(c, names)
	if err != nil {
		return err
	}
	defer w.destroy()
	var items []provision.Item
	var errs []error
	for _, v := range w.volumes {
		list, err := take(w, v)
		items, errs = append(items, list...), append(errs, err)
	}
	err = printResult(c, items, func(stdout, _ io.Writer) {
		for _, i := range items {
			printItems(stdout, []provision.Item{i}, map[string]string{provision.There: "left", provision.Missing: gone(i.Changed), provision.Differs: "left", provision.Unknown: "unknown"})
		}
	})
	return errors.Join(append(errs, err)...)
}

func gone(now bool) string {
	if now {
		return "taken"
	}
	return "not there"
}

func provisionRotateCommand() *urfave.Command {
	return &urfave.Command{
		Name: "rotate", Usage: "give volumes a new KEK, and store the same DEK wrapped with it", ArgsUsage: "VOLUME...",
		Description: "The new KEK is a version of the same key under the same policy; a rotation that was\n" +
			"interrupted is gone on with. Runs under way have their DEK and go on; a run that\n" +
			"starts reads the new wrapped DEK and is released the new version. With --retire the\n" +
			"version before is disabled: a run that has read the old wrapped DEK and not yet the\n" +
			"KEK then fails, and is started again.\n\n" +
			"Whoever was given the DEK can open the volume still. `cloister prep rekey`, or with a\n" +
			"changed folder `cloister prep encrypt --new-key`, makes the next epoch under a new DEK,\n" +
			"of the next key version; as its reference is\n" +
			"another, the contract is amended, and `cloister provision apply --key-version N`\n" +
			"stores the new DEK. What is in an epoch before stays open to who could open that.\n\nJSON: a list of volume, kek, before, secret, retired.",
		Flags:  append(ownerFlags(), &urfave.BoolFlag{Name: "retire", Usage: "disable the KEK's version before"}),
		Action: action(provisionRotate, "--specification", "--key", "VOLUME..."),
	}
}

func provisionRotate(c *urfave.Context, names []string) error {
	w, err := readWanted(c, names)
	if err != nil {
		return err
	}
	defer w.destroy()
	if err := checkReleasePolicy(c, w.spec, w.owner.policy); err != nil {
		return err
	}
	var done []provision.Rotated
	for _, v := range w.volumes {
		r, err := w.owner.vaults.Rotate(c.Context, v, c.Bool("retire"))
		if err != nil {
			return fault.Errorf(fault.KindOf(err), "give the command again, which goes on where this one stopped", "%w", err)
		}
		done = append(done, r)
	}
	return printResult(c, done, func(stdout, _ io.Writer) {
		for _, r := range done {
			fmt.Fprintf(stdout, "%s\n  KEK    %s\n  secret %s\n", r.Volume, r.KEK, r.Secret)
			if r.Retired {
				fmt.Fprintf(stdout, "  disabled %s\n", r.Before)
			}
		}
	})
}
