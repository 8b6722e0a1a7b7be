package main

import (
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func mergeCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "merge",
		Usage:     "join volumes into one without moving data, and print the volume reference",
		ArgsUsage: "VOLUME...",
		Description: "The volumes lie below the one that --into names, as the outputs of replicas do\n" +
			"under one prefix; their data stays where it is, so they must be kept as they are.\n" +
			"The epoch that is made holds what they hold and nothing else. Directories of one\n" +
			"name are joined; any other name that is in two volumes is refused, with a list.\n\n" +
			"JSON: reference, volume, epoch, sources (references), files, directories, others,\n" +
			"bytes, objects, keys, manifest_bytes.",
		Flags: append(keyFlags(),
			&urfave.StringFlag{Name: "into", Usage: "the merged `VOLUME`; it is made if there is none"},
			&urfave.StringFlag{Name: "identity", Usage: "the `PARTYFILE` of a party that volumes not sealed with --key are sealed for"},
			&urfave.StringSliceFlag{Name: "reference", Usage: "refuse anything but the state that `REF` names of the volume it names; repeated"},
			recipientFlag(), signFlag(), jsonFlag()),
		Action: runMerge,
	}
}

func runMerge(c *urfave.Context) error {
	into, volumes := c.String("into"), c.Args().Slice()
	if into == "" || len(volumes) == 0 {
		return fault.Errorf(fault.Usage, "see --help", "%s takes --into VOLUME and VOLUME...", c.Command.HelpName)
	}
	places, err := placesBelow(into, volumes)
	if err != nil {
		return err
	}
	o, destroy, err := mergeOptions(c)
	if err != nil {
		return err
	}
	defer destroy()
	signer, err := readSigner(c)
	if err != nil {
		return err
	}
	if signer != nil {
		defer signer.Destroy()
	}
	s, err := openStore(c, into, true)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := prep.Merge(c.Context, s, places, o)
	if err != nil {
		return err
	}
	if err := printMerged(c, r); err != nil {
		return err
	}
	return sign(c.Context, s, r.Reference, signer)
}

// mergeOptions reads keys and references; destroy destroys the keys.
func mergeOptions(c *urfave.Context) (o prep.MergeOptions, destroy func(), err error) {
	for _, text := range c.StringSlice("reference") {
		ref, err := format.ParseReference(text)
		if err != nil {
			return o, nil, fmt.Errorf("--reference: %w", err)
		}
		o.References = append(o.References, ref)
	}
	if o.Recipients, err = readRecipients(c); err != nil {
		return o, nil, err
	}
	var other opener
	if path := c.String("identity"); path != "" {
		if other, err = readIdentity(path); err != nil {
			return o, nil, err
		}
		o.Identity = other
	}
	o.Root, err = readKey(c)
	return o, func() {
		o.Root.Destroy()
		if other != nil {
			other.Destroy()
		}
	}, err
}

func printMerged(c *urfave.Context, r *prep.Merged) error {
	return printResult(c, r, func(stdout, stderr io.Writer) {
		fmt.Fprintf(stderr, "merged %s as epoch %d of volume %s: %s, %s, %s, %s in %s; keep the merged volumes, their data is this one's\n",
			count(len(r.Sources), "volume"), r.Epoch, r.Volume, count(r.Files, "file"), count(r.Directories, "directory"),
			count(r.Others, "other"), size(r.Bytes), count(r.Objects, "object"))
		fmt.Fprintln(stdout, r.Reference)
	})
}

// placesBelow returns where volumes lie below another: a place in a manifest is
// a path relative to the manifest's own volume.
func placesBelow(into string, volumes []string) (places []string, err error) {
	for _, volume := range volumes {
		place, err := placeBelow(into, volume)
		if err != nil {
			return nil, err
		}
		if slices.Contains(places, place) {
			return nil, fault.Errorf(fault.Usage, "name each volume once", "volume %s is named twice", shown(volume))
		}
		places = append(places, place)
	}
	return places, nil
}

func placeBelow(into, volume string) (place string, err error) {
	if strings.Contains(into, "://") {
		place, err = urlBelow(into, volume)
	} else {
		place, err = pathBelow(into, volume)
	}
	first, _, _ := strings.Cut(place, "/")
	own := slices.Contains([]string{format.DataPrefix, format.ManifestPrefix, format.JournalPrefix, format.PendingPrefix, format.SignaturePrefix}, first+"/")
	if err == nil && (place == "" || place == "." || first == ".." || own) {
		err = fault.Errorf(fault.Usage, "volumes to merge lie below the merged one: name a prefix that all of them are under with --into",
			"volume %s does not lie below %s", shown(volume), shown(into))
	}
	return place, err
}

// shown is a volume's name without what may be a credential.
func shown(volume string) string {
	volume, _, _ = strings.Cut(volume, "?")
	return volume
}

// urlBelow returns the path of one URL below another's, or "..". Credentials in
// a query are --into's.
func urlBelow(into, volume string) (string, error) {
	a, err := url.Parse(shown(into))
	if err != nil {
		return "", fault.Errorf(fault.Usage, "", "--into is not a URL")
	}
	b, err := url.Parse(shown(volume))
	if err != nil {
		return "", fault.Errorf(fault.Usage, "", "volume %s is not a URL", shown(volume))
	}
	rest, ok := strings.CutPrefix(path.Clean("/"+b.Path), path.Clean("/"+a.Path)+"/")
	if !ok || a.Scheme != b.Scheme || !strings.EqualFold(a.Host, b.Host) {
		return "..", nil
	}
	return rest, nil
}

// pathBelow returns the path of one directory below another, without symlinks.
func pathBelow(into, volume string) (string, error) {
	var real [2]string
	for i, name := range []string{into, volume} {
		abs, err := filepath.Abs(name)
		if err == nil {
			real[i], err = filepath.EvalSymlinks(abs)
		}
		if err != nil {
			return "", fault.Errorf(fault.NotFound, "check the name", "there is no volume at %s", shown(name))
		}
	}
	rel, err := filepath.Rel(real[0], real[1])
	if err != nil {
		return "..", nil
	}
	return filepath.ToSlash(rel), nil
}
