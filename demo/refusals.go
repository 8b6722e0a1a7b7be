package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"cloister/enclave"
	"cloister/enclave/attest"
	"cloister/enclave/azure"
	"cloister/enclave/azurekeys"
	"cloister/enclave/snp"
	"cloister/enclave/snp/simulated"
	"cloister/enclave/vault"
	"cloister/fs/format"
	"cloister/internal/cli"
	"cloister/internal/fault"
	"cloister/policy/release"
	"cloister/prep/keyfile"

	volumefs "cloister/fs"
	"cloister/fs/store"
)

// refuseChangedPolicy is a host that starts the runtime under a container
// policy of its own. The honest runtime sees that at once; one that looks away
// asks the HSM and is not given the key.
func refuseChangedPolicy(d *stage) error {
	agreed, err := os.ReadFile(d.Policy())
	if err != nil {
		return err
	}
	changed := bytes.Replace(agreed, []byte("protects nothing"), []byte("protects nothinG"), 1)
	if bytes.Equal(agreed, changed) {
		return errors.New("the policy was not changed")
	}
	if err := os.WriteFile(d.Path("changed.rego"), changed, 0o644); err != nil {
		return err
	}
	if _, err = d.runtime("guest-changed", d.Path("changed.rego")); err == nil {
		return errors.New("the runtime ran under a policy that nobody agreed on")
	}
	if exitCode(err) != cli.ExitRefused {
		return fmt.Errorf("want exit code %d: %w", cli.ExitRefused, err)
	}
	var said *runtimeError
	if errors.As(err, &said) {
		d.say("the runtime: %s", said.log)
	}
	err = d.releaseWithoutLooking(d.Path("guest-changed"))
	if fault.KindOf(err) != fault.Refused || !strings.Contains(err.Error(), "hostdata") {
		return fmt.Errorf("want the HSM's refusal over host data, got: %w", err)
	}
	d.say("a runtime that looks away, from the HSM: %v", err)
	return nil
}

// releaseWithoutLooking does what the runtime does, but for its checks of
// specification, contract and consent.
func (d *stage) releaseWithoutLooking(guest string) error {
	service, err := attest.New(attest.Options{Authority: d.Endpoints.Attestation})
	if err != nil {
		return err
	}
	cred, err := azure.Identity{PrivateCloud: true}.Credential()
	if err != nil {
		return err
	}
	vaults := vault.New(vault.Options{Credential: cred, PrivateCloud: true})
	keys := azurekeys.New(simulated.New(guest), azurekeys.Requirements{SMT: snp.SMTAllowed, MinTCB: snp.Floors{snp.Milan: {Bootloader: 3, SNP: 8}}, MinUVMSVN: 100},
		service, func(string) (*vault.Client, error) { return vaults, nil })
	defer keys.Close()
	raw, err := os.ReadFile(d.ReleasePolicy())
	if err != nil {
		return err
	}
	agreed, err := release.Parse(raw)
	if err != nil {
		return err
	}
	v := enclave.Volume{Name: "source", WrappedDEK: d.Endpoints.Vault + "/secrets/hospital-dek", KEK: d.Endpoints.HSM + "/keys/hospital-kek", ReleasePolicy: agreed}
	wrapped, err := keys.WrappedDEK(d.ctx, v)
	if err != nil {
		return err
	}
	if err := keys.Attest(d.ctx); err != nil {
		return err
	}
	kek, err := keys.Release(d.ctx, v, wrapped)
	if err == nil {
		kek.Destroy()
	}
	return err
}

// refuseFlippedBit is a store that changes one bit. The files whose bytes the
// bit's segment holds cannot be read; all others can.
func refuseFlippedBit(d *stage) error {
	flipped := d.Path("store", "flipped")
	if err := os.CopyFS(flipped, os.DirFS(d.Path("store", "input"))); err != nil {
		return err
	}
	want, err := d.flip(flipped)
	if err != nil {
		return err
	}
	dir := d.Path("mnt", "flipped")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := d.Serve("mount", "--key", d.Path("hospital.key"), flipped, dir); err != nil {
		return err
	}
	got, files, err := compareTrees(dir, d.source)
	if err = errors.Join(err, d.StopLast(os.Interrupt)); err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("EIO on %d files %.200q, want it on %d files %.200q", len(got), got, len(want), want)
	}
	d.say("EIO on the %d files whose bytes the segment holds (%s, ...), right bytes from the other %d", len(got), got[0], files-len(got))
	return nil
}

// flip flips a bit in the middle of a data object and returns the files that
// have bytes in its segment.
func (d *stage) flip(volume string) ([]string, error) {
	s, err := store.Open(d.ctx, volume, store.Options{})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	root, err := keyfile.Read(d.Path("hospital.key"), nil)
	if err != nil {
		return nil, err
	}
	defer root.Destroy()
	v, err := volumefs.Open(d.ctx, s, root.DEK, volumefs.Options{})
	if err != nil {
		return nil, err
	}
	defer v.Close()

	m := v.Manifest()
	target := m.Object(0)
	suite := m.Identity(target).Suite
	// From the middle on, the first segment that several files share.
	segment := suite.Segments(target.SealedLen) / 2
	var files []string
	for ; len(files) < 2 && segment < suite.Segments(target.SealedLen)-1; segment++ {
		files = filesIn(m, 0, uint64(suite.PlainStart(segment)), uint64(suite.PlainStart(segment+1)))
	}
	segment--
	sealedOff, length := suite.SealedRange(segment, target.SealedLen)
	path := filepath.Join(volume, filepath.FromSlash(m.ObjectName(target)))
	object, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	object[sealedOff+length/2] ^= 1
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	d.say("flipping a bit in segment %d of object %s", segment, target.ID)
	return files, os.WriteFile(path, object, 0o600)
}

// filesIn returns the paths of the files with bytes of an object between two
// offsets of its plaintext.
func filesIn(m *format.Manifest, object uint32, from, to uint64) []string {
	paths := map[string]bool{}
	var walk func(dir uint32, at string)
	walk = func(dir uint32, at string) {
		first, end := m.Entries(dir)
		for i := first; i < end; i++ {
			name, inode := m.Entry(i)
			path := filepath.Join(at, string(name))
			switch a, _ := m.Attr(inode); a.Type() {
			case format.ModeDir:
				walk(inode, path)
			case format.ModeFile:
				for e := range m.Extents(inode, 0) {
					if e.Object == object && uint64(e.ObjectOff) < to && uint64(e.ObjectOff)+uint64(e.Length) > from {
						paths[path] = true
					}
				}
			}
		}
	}
	walk(format.RootInode, "")
	return slices.Sorted(maps.Keys(paths))
}

// compareTrees reads every file of a mount and returns those that end in EIO.
// A file that reads otherwise than its original is an error.
func compareTrees(mounted, original string) (failed []string, files int, err error) {
	err = filepath.WalkDir(mounted, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		name := strings.TrimPrefix(path, mounted+"/")
		got, err := os.ReadFile(path)
		if errors.Is(err, syscall.EIO) {
			failed = append(failed, name)
			return nil
		}
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(original, name))
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s reads otherwise than the original", name)
		}
		return err
	})
	slices.Sort(failed)
	return failed, files, err
}

// refuseOldManifest is a host that shows an older state of a volume whose
// owner has moved on.
func refuseOldManifest(d *stage) error {
	changed := d.Path("changed-source")
	if out, err := exec.CommandContext(d.ctx, "cp", "-a", d.source, changed).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the source: %w\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(changed, "NEWER.txt"), []byte("a change\n"), 0o644); err != nil {
		return err
	}
	newer, err := d.Cloister("prep", "encrypt", "--key", d.Path("hospital.key"), changed, d.Path("store", "input"))
	if err != nil {
		return err
	}
	old, err := os.ReadFile(d.Path("store", "input", format.ManifestName(1)))
	if err != nil {
		return err
	}
	second := d.Path("store", "input", format.ManifestName(2))
	if err := os.Remove(second); err != nil {
		return err
	}
	if err := os.WriteFile(second, old, 0o600); err != nil {
		return err
	}
	dir := d.Path("mnt", "old")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mount", "--key", d.Path("hospital.key"), "--reference", newer, d.Path("store", "input"), dir},
		{"prep", "verify", "--key", d.Path("hospital.key"), "--reference", newer, d.Path("store", "input")},
	} {
		_, err := d.Cloister(args...)
		if exitCode(err) != cli.ExitRefused {
			return fmt.Errorf("want exit code %d: %w", cli.ExitRefused, err)
		}
		_, said, _ := strings.Cut(err.Error(), "\n")
		d.say("%s", strings.TrimSpace(strings.ReplaceAll(said, d.Dir+"/", "")))
	}
	return nil
}
