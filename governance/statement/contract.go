package statement

import (
	"fmt"
	"slices"
)

// Contract is one version of what the parties agree on. Its digest is what an
// approval approves.
type Contract struct {
	// ContainerPolicy is the digest of the policy's raw text: the value the
	// platform puts into HOST_DATA of the attestation report.
	ContainerPolicy string `json:"containerPolicy"`
	ID              string `json:"id"`
	// KeyReleasePolicy is the digest of the release policy's canonical form.
	KeyReleasePolicy string `json:"keyReleasePolicy"`
	// Parties in rising order of names.
	Parties []Party `json:"parties"`
	// Replicas is how many runs carry it out together, each one of them; where
	// it is 0 there is one, whose index is 0.
	Replicas uint64 `json:"replicas,omitempty"`
	// Specification is the digest of the specification's canonical form.
	Specification string `json:"specification"`
	Version       uint64 `json:"version"`
	// Volumes in rising order of names.
	Volumes []Volume `json:"volumes,omitempty"`
}

// Party is somebody whose approval the contract needs.
type Party struct {
	// Key is the signing key, SPKI in DER.
	Key  []byte `json:"key"`
	Name string `json:"name"`
	// Recipient is the key that outputs are sealed for, SPKI in DER, if any.
	Recipient []byte `json:"recipient,omitempty"`
	// Recovery is a second signing key that a rotation of Key needs, if any.
	Recovery []byte `json:"recovery,omitempty"`
}

// What a volume of a contract is for.
const (
	CodeVolume   = "code"
	SourceVolume = "source"
	SinkVolume   = "sink"
)

// Volume is one volume that the contract lets the enclave open.
type Volume struct {
	// Check is a sink's DEK check value, 64 hexadecimal digits.
	Check string `json:"check,omitempty"`
	// ID is a sink's volume id, 32 hexadecimal digits.
	ID string `json:"id,omitempty"`
	// KeyVersion is the version of a sink's DEK.
	KeyVersion uint64 `json:"keyVersion,omitempty"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	// Owner is the party that alone may amend this entry.
	Owner string `json:"owner"`
	// Recipients are the fingerprints of the keys a sink is sealed for.
	Recipients []string `json:"recipients,omitempty"`
	// Reference is the volume reference of code and sources. For a sink it is
	// the reference of the epoch that the run goes on from, if any.
	Reference string `json:"reference,omitempty"`
}

// Digest returns the digest of the contract's canonical encoding. The prefix
// keeps it apart from the digest of any other document of ours.
func (k Contract) Digest() (string, error) {
	if err := k.check(); err != nil {
		return "", err
	}
	raw, err := encode(k)
	if err != nil {
		return "", err
	}
	return Digest(append([]byte("cloister contract v1\n"), raw...)), nil
}

// Party returns the party of that name.
func (k Contract) Party(name string) (Party, bool) {
	i := slices.IndexFunc(k.Parties, func(p Party) bool { return p.Name == name })
	if i < 0 {
		return Party{}, false
	}
	return k.Parties[i], true
}

// Volume returns the volume of that name.
func (k Contract) Volume(name string) (Volume, bool) {
	i := slices.IndexFunc(k.Volumes, func(v Volume) bool { return v.Name == name })
	if i < 0 {
		return Volume{}, false
	}
	return k.Volumes[i], true
}

// Fingerprint returns the fingerprint of the party's signing key.
func (p Party) Fingerprint() string { return Digest(p.Key) }

func (k Contract) check() error {
	c := &checks{}
	c.name("the contract's id", k.ID)
	c.number("the contract's version", k.Version)
	c.digest("the specification", k.Specification)
	c.digest("the container policy", k.ContainerPolicy)
	c.digest("the key release policy", k.KeyReleasePolicy)
	c.that(k.Replicas != 1 && k.Replicas <= maxVolumes, "%d replicas, want 2 to %d, or none said where there is one", k.Replicas, maxVolumes)
	c.that(len(k.Parties) > 0, "the contract has no parties")
	ascending(c, "parties", k.Parties, maxParties, func(p Party) string { return p.Name })
	ascending(c, "volumes", k.Volumes, maxVolumes, func(v Volume) string { return v.Name })
	if c.err != nil {
		return c.err
	}
	if err := k.checkParties(); err != nil {
		return err
	}
	for _, v := range k.Volumes {
		if err := v.check(k); err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
	}
	return nil
}

// checkParties also refuses one key under two names: its holder would have two
// of the votes.
func (k Contract) checkParties() error {
	seen := map[string]string{}
	for _, p := range k.Parties {
		c := &checks{}
		c.name("party", p.Name)
		c.that(len(p.Recipient) <= maxKeyBytes, "a recipient key of %d bytes", len(p.Recipient))
		for _, key := range [][]byte{p.Key, p.Recovery} {
			if key == nil {
				continue
			}
			_, err := ParsePublicKey(key)
			c.that(err == nil, "%v", err)
			other, taken := seen[Digest(key)]
			c.that(!taken, "the same key as %q", other)
			seen[Digest(key)] = p.Name
		}
		c.that(p.Key != nil, "no key")
		if c.err != nil {
			return fmt.Errorf("party %q: %w", p.Name, c.err)
		}
	}
	return nil
}

func (v Volume) check(k Contract) error {
	c := &checks{}
	c.name("volume", v.Name)
	c.oneOf("kind", v.Kind, CodeVolume, SourceVolume, SinkVolume)
	_, known := k.Party(v.Owner)
	c.that(known, "its owner %q is not a party", v.Owner)
	c.text("reference", v.Reference, maxText)
	ascending(c, "recipients", v.Recipients, maxItems, func(s string) string { return s })
	for _, r := range v.Recipients {
		c.digest("recipient", r)
	}
	if v.Kind == SinkVolume {
		c.hex("volume id", v.ID, volumeIDBytes)
		c.number("key version", v.KeyVersion)
		c.hex("check value", v.Check, checkBytes)
		return c.err
	}
	c.that(v.Reference != "", "the reference is missing")
	c.that(v.ID == "" && v.KeyVersion == 0 && v.Check == "" && v.Recipients == nil,
		"id, key version, check value and recipients are for sinks; the reference says them")
	return c.err
}
