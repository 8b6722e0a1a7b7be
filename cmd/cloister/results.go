package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"cloister/fs/format"
	"cloister/governance/partyfile"
	"cloister/governance/statement"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/spec"
	"cloister/prep"

	urfave "github.com/urfave/cli/v2"
)

func resultsCommand() *urfave.Command {
	return &urfave.Command{
		Name:      "results",
		Usage:     "fetch a run's outputs that this party may read, verify and decrypt them",
		ArgsUsage: "OUTDIR",
		Description: "OUTDIR is made, with a folder for each output. Which they are, and in which state,\n" +
			"is the run's completion record in the verified log; each must be signed by that run's\n" +
			"key and have the DEK that the contract pins. Those that are sealed for the party are\n" +
			"opened with the recipient key in its --party file, or in --identity where that has\n" +
			"another, as after a rotation; with --key also those that are its own.\n\n" +
			"JSON: run, outputs (name, reference, folder, files, bytes), others (names of outputs\n" +
			"that this party does not read).",
		Flags: auditFlags(jsonFlag(),
			&urfave.StringFlag{Name: "key", Usage: "the owner's `KEYFILE`, for outputs of this party's own"}, passphraseFileFlag(),
			&urfave.StringFlag{Name: "identity", Usage: "the `PARTYFILE` of this party whose key outputs are sealed for", DefaultText: "that of --party"},
			&urfave.StringFlag{Name: "run", Usage: "the run `ID`; by default the newest that is complete"},
			&urfave.BoolFlag{Name: "partial", Usage: "also of a run that ended incomplete: its outputs are what was durable then"}),
		Action: action(runResults, "--ledger", "--party", "OUTDIR"),
	}
}

// results is what was fetched.
type results struct {
	Run     string   `json:"run"`
	Outputs []result `json:"outputs"`
	Others  []string `json:"others"`
}

type result struct {
	Name      string `json:"name"`
	Reference string `json:"reference"`
	Folder    string `json:"folder"`
	Files     uint64 `json:"files"`
	Bytes     uint64 `json:"bytes"`
}

func runResults(c *urfave.Context, args []string) error {
	l, done, err := openRuns(c)
	defer done()
	if err != nil {
		return err
	}
	r, err := l.find(c.String("run"))
	if c.String("run") == "" {
		r, err = l.newest(func(r ran) bool { return r.Complete || r.Completed && c.Bool("partial") })
	}
	if err != nil {
		return err
	}
	switch {
	case !r.Completed:
		return fault.Errorf(fault.Unavailable, "wait for its end with `cloister runs wait`", "run %s has no completion record: nothing says which state its outputs are in", r.ID)
	case !r.Complete && !c.Bool("partial"):
		return r.incomplete("take what was durable with --partial, or run it again")
	}
	s, err := specificationOf(c, l.view.State())
	if err != nil {
		return err
	}
	got, err := fetchResults(c, args[0], r, s.Replica(uint32(r.Replica)))
	if err != nil {
		return err
	}
	return printResult(c, got, func(stdout, stderr io.Writer) {
		for _, o := range got.Outputs {
			fmt.Fprintf(stderr, "%s: %s, %s, of run %s\n", cli.Printable(o.Name), count(o.Files, "file"), size(o.Bytes), got.Run)
			fmt.Fprintln(stdout, cli.Printable(o.Folder))
		}
		for _, name := range got.Others {
			fmt.Fprintf(stderr, "%s: not for this party\n", cli.Printable(name))
		}
	})
}

// fetchResults decrypts into a folder beside out, which it takes the place of once
// all is there.
func fetchResults(c *urfave.Context, out string, r ran, s spec.Specification) (got results, err error) {
	got = results{Run: r.ID, Outputs: []result{}, Others: []string{}}
	if _, err := os.Lstat(out); err == nil {
		return got, fault.Errorf(fault.Conflict, "name a folder that is not there", "%s is there already", out)
	}
	partly, err := os.MkdirTemp(filepath.Dir(filepath.Clean(out)), ".results-")
	if err != nil {
		return got, fault.Errorf(fault.Usage, "name a folder that can be made", "making the folder for the results: %w", err)
	}
	defer os.RemoveAll(partly)
	reader, err := newResultReader(c)
	if err != nil {
		return got, err
	}
	defer reader.destroy()
	for _, o := range r.Outputs {
		sink, err := agreedSink(s, o.Name)
		if err != nil {
			return got, err
		}
		key := reader.keyFor(sink)
		if key == nil {
			got.Others = append(got.Others, o.Name)
			continue
		}
		one, err := fetchOutput(c, sink, o, key, r.key, filepath.Join(partly, sink.Name))
		if err != nil {
			return got, fmt.Errorf("output %s: %w", o.Name, err)
		}
		one.Folder = filepath.Join(out, sink.Name)
		got.Outputs = append(got.Outputs, one)
	}
	if len(got.Outputs) == 0 {
		return got, fault.Errorf(fault.Denied, "give --key KEYFILE for outputs of your own; others are for whom the specification names",
			"run %s has no output that party %s can open", r.ID, reader.party)
	}
	return got, os.Rename(partly, out)
}

// agreedSink is the sink that an output was written to. Names come from the run, and
// become folders.
func agreedSink(s spec.Specification, name string) (spec.Sink, error) {
	if i := slices.IndexFunc(s.DataSinks, func(d spec.Sink) bool { return d.Name == name }); i >= 0 {
		return s.DataSinks[i], nil
	}
	return spec.Sink{}, fault.Errorf(fault.Refused, "ask who runs the clean room", "the run speaks of output %q, which the agreed specification does not have", name)
}

// fetchOutput verifies an output and decrypts it.
func fetchOutput(c *urfave.Context, sink spec.Sink, o statement.Output, key prep.Key, run statement.PublicKey, folder string) (result, error) {
	ref, err := format.ParseReference(o.Reference)
	if err != nil {
		return result{}, err
	}
	if ref.Volume.String() != sink.Volume {
		return result{}, fault.Errorf(fault.Refused, "ask who runs the clean room", "the run's record is of volume %s, the agreed one is %s", ref.Volume, sink.Volume)
	}
	s, err := openStore(c, sink.Store, false)
	if err != nil {
		return result{}, err
	}
	defer s.Close()
	if _, err := prep.Signed(c.Context, s, &ref, run); err != nil {
		return result{}, err
	}
	d, err := prep.Decrypt(c.Context, s, folder, prep.DecryptOptions{Key: key, Reference: &ref})
	if err != nil {
		return result{}, err
	}
	return result{Name: o.Name, Reference: o.Reference, Files: d.Files, Bytes: d.Bytes}, nil
}

// resultReader is what this party opens outputs with.
type resultReader struct {
	party string
	root  *format.RootSecret // nil without --key
	own   opener             // nil where the party has no recipient key
}

func newResultReader(c *urfave.Context) (*resultReader, error) {
	name, signer, err := readParty(c, c.String("party"))
	if err != nil {
		return nil, err
	}
	signer.Destroy()
	r := &resultReader{party: name}
	if r.own, err = ownIdentity(c, name); err != nil {
		return nil, err
	}
	if c.String("key") != "" {
		if r.root, err = readKey(c); err != nil {
			r.destroy()
			return nil, err
		}
	}
	return r, nil
}

// ownIdentity is the party's recipient key, nil where it has none and none was named.
func ownIdentity(c *urfave.Context, party string) (opener, error) {
	path := cmp.Or(c.String("identity"), c.String("party"))
	p, err := partyfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("--identity: %w", err)
	}
	none := p.Recipient == nil
	p.Destroy()
	switch {
	case p.Name != party:
		return nil, fault.Errorf(fault.Usage, "give a file of the party that reads", "--identity: %s is of party %s, --party of %s", path, p.Name, party)
	case none && c.String("identity") == "":
		return nil, nil
	}
	return readIdentity(path)
}

// keyFor is the key for a sink, nil where the party has none.
func (r *resultReader) keyFor(s spec.Sink) prep.Key {
	switch {
	case s.Party == r.party && r.root != nil:
		return r.root
	case r.own != nil && slices.Contains(s.Recipients, r.party):
		return r.own
	}
	return nil
}

func (r *resultReader) destroy() {
	if r.root != nil {
		r.root.Destroy()
	}
	if r.own != nil {
		r.own.Destroy()
	}
}
