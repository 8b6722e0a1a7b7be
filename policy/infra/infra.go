// Package infra is the infrastructure details: a signed index of what a clean
// room is built on, so that a party need not take anybody's word for which
// images hold the runtime, or which of them still deserve trust.
//
// Life of an index: whoever builds the runtime's images writes down what each
// is, its digest and its layers' root hashes, with the lowest security versions
// that are accepted, and signs it (Sign). Whoever translates a specification
// opens it with that key (Open) and asks whether an image is, or has in it, a
// runtime of the index (Runtime); the platform's own part goes into the
// container policy (Platform).
//
// The form on disk is a DSSE envelope (secure-systems-lab, DSSE 1.0) with
// payload type PayloadType and one signature, by an ECDSA P-256 key over SHA-256
// or an Ed25519 key. The payload is the JSON of Index: every field known, none
// twice.
package infra

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/internal/strictjson"
)

// Format names this form of index.
const Format = "cloister-infrastructure/v1"

// Index is what is signed.
type Index struct {
	Format string `json:"format"`
	// Sequence rises with every index that replaces another: of two, the higher
	// is the newer, whatever the host shows.
	Sequence uint64 `json:"sequence"`
	// MinSVN is the lowest security version of a runtime that is accepted. Images
	// below it stay listed, so that what is refused has a name.
	MinSVN   uint32  `json:"minSVN"`
	Runtimes []Image `json:"runtimes"`
	// PauseLayers and FragmentSVN are the platform's, see cce.Infrastructure;
	// absent: what that package knows.
	PauseLayers []string `json:"pauseLayers,omitempty"`
	FragmentSVN uint32   `json:"fragmentSVN,omitempty"`
}

// The programs that an image of the index holds.
const (
	ProgramRuntime = "cloisterd"
	ProgramShim    = "cloister-shim"
)

// Image is one image of the runtime, or of the shim.
type Image struct {
	Program   string `json:"program"`   // which of the two it is: one never stands for the other
	Reference string `json:"reference"` // where it is published, with the digest
	Digest    string `json:"digest"`    // of its manifest: "sha256:" and 64 hexadecimal digits
	// Layers are the dm-verity root hashes of its layers, lowest first, 64
	// hexadecimal digits each.
	Layers []string `json:"layers"`
	SVN    uint32   `json:"svn"` // security version, never 0
}

// Limits far above any index that is in use.
const (
	maxSize   = 1 << 20
	maxDepth  = 8
	maxImages = 1024
	maxLayers = 128 // a Linux overlay has at most 128
)

// parse reads the payload strictly.
func parse(payload []byte) (Index, error) {
	var index Index
	if _, err := strictjson.Parse(payload, strictjson.Limits{Size: maxSize, Depth: maxDepth}); err != nil {
		return index, err
	}
	dec := json.NewDecoder(strings.NewReader(string(payload)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&index); err != nil {
		return index, err
	}
	return index, index.Check()
}

// Check says what is wrong with an index, as text without a kind.
func (x Index) Check() error {
	switch {
	case x.Format != Format:
		return fmt.Errorf("format is %.80q, not %q", x.Format, Format)
	case x.Sequence == 0 || x.MinSVN == 0:
		return fmt.Errorf("sequence or minSVN is missing or 0")
	case len(x.Runtimes) == 0 || len(x.Runtimes) > maxImages:
		return fmt.Errorf("%d runtimes, not 1 to %d", len(x.Runtimes), maxImages)
	}
	digests := map[string]bool{}
	for i, image := range x.Runtimes {
		if err := image.check(); err != nil {
			return fmt.Errorf("runtimes[%d]: %w", i, err)
		}
		if digests[image.Digest] {
			return fmt.Errorf("runtimes[%d]: %s is listed twice", i, image.Digest)
		}
		digests[image.Digest] = true
	}
	return checkLayers("pauseLayers", x.PauseLayers)
}

func (i Image) check() error {
	digest, ok := strings.CutPrefix(i.Digest, "sha256:")
	switch {
	case i.Program != ProgramRuntime && i.Program != ProgramShim:
		return fmt.Errorf("program %.80q is neither %s nor %s", i.Program, ProgramRuntime, ProgramShim)
	case !ok || !isHash(digest):
		return fmt.Errorf("digest %.80q is not sha256: and 64 hexadecimal digits", i.Digest)
	case !strings.HasSuffix(i.Reference, "@"+i.Digest):
		return fmt.Errorf("reference %.200q does not end with its digest", i.Reference)
	case i.SVN == 0:
		return fmt.Errorf("svn is missing or 0")
	case len(i.Layers) == 0:
		return fmt.Errorf("layers are missing")
	}
	return checkLayers("layers", i.Layers)
}

func checkLayers(what string, layers []string) error {
	if len(layers) > maxLayers {
		return fmt.Errorf("%s: %d, more than %d", what, len(layers), maxLayers)
	}
	for n, layer := range layers {
		if !isHash(layer) {
			return fmt.Errorf("%s[%d] is not 64 hexadecimal digits", what, n)
		}
	}
	return nil
}

func isHash(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 32 && strings.ToLower(s) == s
}

// Platform is the platform's part of a container policy.
func (x Index) Platform() cce.Infrastructure {
	return cce.Infrastructure{PauseLayers: x.PauseLayers, FragmentSVN: x.FragmentSVN}
}

// Find returns the newest image of a program whose layers are the uppermost of an
// image's, in their order, and refuses an image that has none, or only one below
// the floor: a layer above the program's could put another in its place. Errors
// are of kind fault.Refused.
func (x Index) Find(program, reference string, layers []string) (Image, error) {
	var found Image
	for _, r := range x.Runtimes {
		if r.Program == program && onTop(layers, r.Layers) && r.SVN > found.SVN {
			found = r
		}
	}
	switch {
	case found.SVN == 0:
		return found, fault.Errorf(fault.Refused, "put one of the index in front of it with `cloister image wrap`",
			"the uppermost layers of image %s are no %s that the infrastructure details list", reference, program)
	case found.SVN < x.MinSVN:
		return found, fault.Errorf(fault.Refused, "build it again with a newer "+program,
			"image %s holds %s of security version %d, and at least %d is needed", reference, found.Reference, found.SVN, x.MinSVN)
	}
	return found, nil
}

// onTop reports whether the uppermost layers of an image are those of a runtime.
func onTop(layers, runtime []string) bool {
	below := len(layers) - len(runtime)
	return below >= 0 && slices.Equal(layers[below:], runtime)
}
