package main

import (
	"fmt"

	"cloister/fs/format"
	"cloister/governance/partyfile"
	"cloister/internal/fault"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

// openerFlags name who opens a volume: its owner, or a party it is sealed for.
func openerFlags() []urfave.Flag {
	return append(keyFlags(),
		&urfave.StringFlag{Name: "identity", Usage: "instead of --key, the `PARTYFILE` of a party that the volume is sealed for"},
		&urfave.StringFlag{Name: "writer", Usage: "refuse what was not signed by the party of the document `PARTYFILE.pub`; or give its public key, a PEM file or base64"})
}

// opener is a key that opens volumes. Its method DEK is an fs.KeyFunc.
type opener interface {
	prep.Key
	Destroy()
}

// readOpener returns the key that --key or --identity names, the caller's to
// destroy.
func readOpener(c *urfave.Context) (opener, error) {
	path := c.String("identity")
	switch {
	case path == "" && c.String("key") == "":
		return nil, fault.Errorf(fault.Usage, "give --key KEYFILE as the owner, or --identity PARTYFILE as a party that the volume is sealed for",
			"%s needs the owner's key file, or that of a party", c.Command.HelpName)
	case path == "":
		return readKey(c)
	case c.String("key") != "":
		return nil, fault.Errorf(fault.Usage, "give one of them", "--key and --identity are both given")
	}
	return readIdentity(path)
}

// recipient is the key of a party that volumes are sealed for.
type recipient struct{ *format.RecipientKey }

// readIdentity returns the recipient key in a party's file, the caller's to
// destroy.
func readIdentity(path string) (opener, error) {
	p, err := partyfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("--identity: %w", err)
	}
	defer p.Destroy()
	if p.Recipient == nil {
		return nil, fault.Errorf(fault.Usage, "make another party's file with cloister party keygen", "--identity: %s has no key that volumes are sealed for", path)
	}
	key, err := format.ParseRecipientKey(p.Recipient)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "give the file that cloister party keygen made", "--identity: %s: %w", path, err)
	}
	return recipient{key}, nil
}

// DEK is the recipient's, of a volume that is there.
func (r recipient) DEK(p format.Preamble) (*format.DEK, error) {
	if p.Epoch == 0 {
		return nil, fault.Errorf(fault.Usage, "give the owner's --key", "there is no volume, and --identity opens only what is sealed")
	}
	return r.RecipientKey.DEK(p)
}

func recipientFlag() urfave.Flag {
	return &urfave.StringSliceFlag{Name: "recipient", Usage: "also seal it for the party of the document `PARTYFILE.pub`, who opens it with --identity; " +
		"repeated; without, for whom it was sealed before"}
}

// readRecipients returns the keys in the documents that --recipient names, or
// nil.
func readRecipients(c *urfave.Context) (recipients []*format.Recipient, err error) {
	for _, path := range c.StringSlice("recipient") {
		p, err := partyfile.ReadDocument(path)
		if err != nil {
			return nil, fmt.Errorf("--recipient: %w", err)
		}
		if p.Recipient == nil {
			return nil, fault.Errorf(fault.Usage, "ask the party for a document with a recipient key", "--recipient: the document %s of %s has none", path, p.Name)
		}
		r, err := format.ParseRecipient(p.Recipient)
		if err != nil {
			return nil, fault.Errorf(fault.Refused, "ask the party for another document", "--recipient %s: %w", path, err)
		}
		recipients = append(recipients, r)
	}
	return recipients, nil
}
