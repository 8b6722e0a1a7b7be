package format

import (
	"fmt"
	"strconv"
	"strings"

	"cloister/internal/fault"
)

// Reference is a volume reference: what a contract pins. It holds no secret.
type Reference struct {
	Volume     VolumeID
	Epoch      uint64 // from 1
	KeyVersion uint32 // from 1
	Manifest   Digest // of the sealed manifest
	Check      CheckValue
}

// String returns the one-word form of FORMAT.md §9.
func (r Reference) String() string {
	return fmt.Sprintf("cloister-v1.%s.%d.%d.sha256-%s.%s", r.Volume, r.Epoch, r.KeyVersion, r.Manifest, r.Check)
}

// MarshalText makes references readable in JSON.
func (r Reference) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseReference.
func (r *Reference) UnmarshalText(text []byte) error {
	parsed, err := ParseReference(string(text))
	if err == nil {
		*r = parsed
	}
	return err
}

// ParseReference reads what String writes, and nothing else.
func ParseReference(s string) (Reference, error) {
	var r Reference
	if err := r.parse(s); err != nil {
		return Reference{}, fault.Errorf(fault.Usage,
			"give the whole word that `cloister prep encrypt` printed, beginning with cloister-v1.",
			"volume reference %q: %w", s, err)
	}
	return r, nil
}

func (r *Reference) parse(s string) (err error) {
	parts := strings.Split(s, ".")
	if len(parts) != 6 || parts[0] != "cloister-v1" {
		return fmt.Errorf("not of the form cloister-v1.VOLUME.EPOCH.KEYVERSION.sha256-DIGEST.CHECK")
	}
	if r.Volume, err = ParseVolumeID(parts[1]); err != nil {
		return err
	}
	if r.Epoch, err = parseNumber(parts[2], 64); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	keyVersion, err := parseNumber(parts[3], 32)
	if err != nil {
		return fmt.Errorf("key version: %w", err)
	}
	r.KeyVersion = uint32(keyVersion)
	digest, ok := strings.CutPrefix(parts[4], "sha256-")
	if !ok {
		return fmt.Errorf("manifest digest %q does not begin with sha256-", parts[4])
	}
	if err := parseHex(r.Manifest[:], digest); err != nil {
		return fmt.Errorf("manifest digest: %w", err)
	}
	r.Check, err = ParseCheckValue(parts[5])
	return err
}

func parseNumber(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%q is not a number from 1", s)
	}
	return n, nil
}
