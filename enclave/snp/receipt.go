package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// The newer form of an endorsement: a hash envelope
// (draft-ietf-cose-hash-envelope) whose payload is the measurement itself, with
// a receipt of the transparency service that holds it
// (draft-ietf-cose-merkle-tree-proofs; its profile for CCF is
// draft-birkholz-cose-receipts-ccf-profile).
const (
	labelPayloadHashAlg = int64(258)
	labelReceipts       = int64(394)
	labelVDS            = int64(395) // which verifiable data structure
	labelVDP            = int64(396) // its proofs
	labelInclusion      = int64(-1)
	vdsCCF              = int64(2)

	cwtIssuer  = int64(1)
	cwtSubject = int64(2)
)

// maxPath bounds a proof: a ledger of 2^64 entries has no longer one.
const maxPath = 64

func isHashEnvelope(msg *cose.Sign1Message) bool {
	_, ok := msg.Headers.Protected[labelPayloadHashAlg]
	return ok
}

// readHashEnvelope takes issuer, feed and SVN from the CWT claims. Which hash
// the measurement is, the processor decides; the header's word on it is not
// needed.
func readHashEnvelope(msg *cose.Sign1Message) (*uvmEndorsement, error) {
	claims, ok := msg.Headers.Protected[cose.HeaderLabelCWTClaims].(map[any]any)
	if !ok {
		return nil, errors.New("its protected header has no CWT claims")
	}
	if len(msg.Payload) != 48 {
		return nil, fmt.Errorf("its payload has %d bytes, not the 48 of a launch measurement", len(msg.Payload))
	}
	svn, err := strconv.ParseUint(fmt.Sprint(claims["svn"]), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("its SVN %q is not a number", fmt.Sprint(claims["svn"]))
	}
	issuer, _ := claims[cwtIssuer].(string)
	feed, _ := claims[cwtSubject].(string)
	return &uvmEndorsement{issuer: issuer, feed: feed, svn: svn, measurement: [48]byte(bytes.Clone(msg.Payload))}, nil
}

// checkReceipts wants one receipt of a ledger that is believed.
func checkReceipts(msg *cose.Sign1Message, ledgers []*ecdsa.PublicKey) error {
	if len(ledgers) == 0 {
		return errors.New("it is a hash envelope, and no transparency service is believed")
	}
	receipts, _ := msg.Headers.Unprotected[labelReceipts].([]any)
	if len(receipts) == 0 {
		return errors.New("it is a hash envelope without a receipt")
	}
	statement, err := withoutReceipts(msg)
	if err != nil {
		return err
	}
	var errs []error
	for _, item := range receipts {
		raw, _ := item.([]byte)
		err := checkReceipt(raw, sha256.Sum256(statement), ledgers)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("its receipts: %w", errors.Join(errs...))
}

// withoutReceipts is the statement as it was registered: the unprotected header
// was empty then.
func withoutReceipts(msg *cose.Sign1Message) ([]byte, error) {
	bare := *msg
	bare.Headers.RawUnprotected, bare.Headers.Unprotected = nil, nil
	return bare.MarshalCBOR()
}

// inclusion is the proof that a leaf is under a root.
type inclusion struct {
	Leaf ccfLeaf       `cbor:"1,keyasint"`
	Path []pathElement `cbor:"2,keyasint"`
}

type ccfLeaf struct {
	_           struct{} `cbor:",toarray"`
	Transaction []byte
	Evidence    string
	Data        []byte
}

type pathElement struct {
	_    struct{} `cbor:",toarray"`
	Left bool
	Hash []byte
}

// checkReceipt verifies that a ledger signed a root over the statement.
func checkReceipt(raw []byte, statement [32]byte, ledgers []*ecdsa.PublicKey) error {
	var receipt cose.Sign1Message
	if err := receipt.UnmarshalCBOR(raw); err != nil {
		return fmt.Errorf("a receipt is not COSE_Sign1: %w", err)
	}
	if alg, err := receipt.Headers.Protected.Algorithm(); err != nil || alg != cose.AlgorithmES384 {
		return errors.New("a receipt's algorithm is not ES384")
	}
	if vds, _ := receipt.Headers.Protected[labelVDS].(int64); vds != vdsCCF {
		return fmt.Errorf("a receipt is about the data structure %v, not CCF's (2)", receipt.Headers.Protected[labelVDS])
	}
	if receipt.Payload != nil {
		return errors.New("a receipt brings its own root")
	}
	proof, err := inclusionProof(&receipt)
	if err != nil {
		return err
	}
	if !bytes.Equal(proof.Leaf.Data, statement[:]) {
		return errors.New("a receipt is for another statement")
	}
	if receipt.Payload, err = proof.root(); err != nil {
		return err
	}
	return signedByLedger(&receipt, ledgers)
}

func inclusionProof(receipt *cose.Sign1Message) (*inclusion, error) {
	proofs, _ := receipt.Headers.Unprotected[labelVDP].(map[any]any)
	list, _ := proofs[labelInclusion].([]any)
	if len(list) != 1 {
		return nil, fmt.Errorf("a receipt has %d proofs of inclusion, expected 1", len(list))
	}
	raw, _ := list[0].([]byte)
	var proof inclusion
	if err := cbor.Unmarshal(raw, &proof); err != nil {
		return nil, fmt.Errorf("a receipt's proof of inclusion: %w", err)
	}
	return &proof, nil
}

// root folds the path. Every part but the evidence, which is hashed by itself,
// has a fixed length, so no two proofs share a message.
func (p *inclusion) root() ([]byte, error) {
	if len(p.Leaf.Transaction) != sha256.Size || len(p.Leaf.Data) != sha256.Size || len(p.Path) > maxPath {
		return nil, errors.New("a receipt's proof of inclusion has a part of another length")
	}
	evidence := sha256.Sum256([]byte(p.Leaf.Evidence))
	root := sha256.Sum256(bytes.Join([][]byte{p.Leaf.Transaction, evidence[:], p.Leaf.Data}, nil))
	for _, e := range p.Path {
		if len(e.Hash) != sha256.Size {
			return nil, errors.New("a receipt's proof of inclusion has a part of another length")
		}
		if e.Left {
			root = sha256.Sum256(append(bytes.Clone(e.Hash), root[:]...))
		} else {
			root = sha256.Sum256(append(root[:], e.Hash...))
		}
	}
	return root[:], nil
}

func signedByLedger(receipt *cose.Sign1Message, ledgers []*ecdsa.PublicKey) error {
	for _, key := range ledgers {
		verifier, err := cose.NewVerifier(cose.AlgorithmES384, key)
		if err != nil {
			return fmt.Errorf("the transparency service's key: %w", err)
		}
		if receipt.Verify(nil, verifier) == nil {
			return nil
		}
	}
	return errors.New("a receipt is signed by no transparency service that is believed")
}
