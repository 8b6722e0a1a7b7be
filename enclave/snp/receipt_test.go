package snp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// registered is an endorsement in hash-envelope form with its receipt, each
// part of which a test may change before it is made.
type registered struct {
	measurement []byte
	claims      map[any]any
	alg         cose.Algorithm // of the receipt
	vds         any
	leaf        ccfLeaf
	path        []pathElement
	signer      *ecdsa.PrivateKey
	payload     []byte // of the receipt
	receipts    func(receipt []byte) any
	proofs      func(proof []byte) any
}

func ledgerKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRegistered(ledger *ecdsa.PrivateKey) *registered {
	return &registered{
		measurement: bytesOf(48, 0x11),
		claims:      map[any]any{cwtIssuer: testIssuer().did, cwtSubject: UVMFeed, "svn": int64(104)},
		alg:         cose.AlgorithmES384, vds: vdsCCF, signer: ledger,
		leaf:     ccfLeaf{Transaction: bytesOf(32, 1), Evidence: "ce:2.7:0b"},
		path:     []pathElement{{Left: true, Hash: bytesOf(32, 2)}, {Left: false, Hash: bytesOf(32, 3)}, {Left: true, Hash: bytesOf(32, 4)}},
		receipts: func(r []byte) any { return []any{r} },
		proofs:   func(p []byte) any { return map[any]any{labelInclusion: []any{p}} },
	}
}

func marshal(t testing.TB, v interface{ MarshalCBOR() ([]byte, error) }) []byte {
	t.Helper()
	raw, err := v.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func sign(t testing.TB, msg *cose.Sign1Message, alg cose.Algorithm, key crypto.Signer) {
	t.Helper()
	msg.Headers.Protected.SetAlgorithm(alg)
	signer, err := cose.NewSigner(alg, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
}

// make signs the statement, registers it and puts the receipt in.
func (r *registered) make(t testing.TB) []byte {
	t.Helper()
	msg := cose.NewSign1Message()
	msg.Payload = r.measurement
	msg.Headers.Protected[labelPayloadHashAlg] = int64(-43) // SHA-384
	msg.Headers.Protected[cose.HeaderLabelX5Chain] = testIssuer().chain
	if r.claims != nil {
		msg.Headers.Protected[cose.HeaderLabelCWTClaims] = r.claims
	}
	sign(t, msg, cose.AlgorithmPS384, testIssuer().leaf)
	if r.leaf.Data == nil {
		sum := sha256.Sum256(marshal(t, msg))
		r.leaf.Data = sum[:]
	}
	if receipts := r.receipts(r.receipt(t)); receipts != nil {
		msg.Headers.Unprotected[labelReceipts] = receipts
	}
	return marshal(t, msg)
}

// receipt folds the path as the profile writes it down, apart from the code
// under test.
func (r *registered) receipt(t testing.TB) []byte {
	hash := func(parts ...[]byte) []byte {
		sum := sha256.Sum256(bytes.Join(parts, nil))
		return sum[:]
	}
	root := hash(r.leaf.Transaction, hash([]byte(r.leaf.Evidence)), r.leaf.Data)
	for _, e := range r.path {
		if e.Left {
			root = hash(e.Hash, root)
		} else {
			root = hash(root, e.Hash)
		}
	}
	proof, err := cbor.Marshal(inclusion{Leaf: r.leaf, Path: r.path})
	if err != nil {
		t.Fatal(err)
	}
	msg := cose.NewSign1Message()
	msg.Payload = root
	msg.Headers.Protected[labelVDS] = r.vds
	msg.Headers.Unprotected[labelVDP] = r.proofs(proof)
	sign(t, msg, r.alg, r.signer)
	msg.Payload = r.payload
	return marshal(t, msg)
}

func TestHashEnvelope(t *testing.T) {
	ledger := ledgerKey(t)
	e, want := goodGuest().evidence(t)
	e.UVM = newRegistered(ledger).make(t)
	want.Anchors.UVMLedgers = []*ecdsa.PublicKey{&ledgerKey(t).PublicKey, &ledger.PublicKey}
	res, err := Verify(e, want)
	if err != nil || res.UVMSVN != 104 {
		t.Fatalf("SVN %d, %v", res.UVMSVN, err)
	}
	want.MinUVMSVN = 105
	res, err = Verify(e, want)
	wantOnly(t, res, err, "UVM SVN: expected at least 105, got 104")
	want.MinUVMSVN = 104
	want.Anchors.UVMLedgers = nil
	res, err = Verify(e, want)
	wantOnly(t, res, err, uvmFails("no transparency service is believed")...)
	other := newRegistered(ledger)
	other.measurement = bytesOf(48, 0x12)
	e.UVM, want.Anchors.UVMLedgers = other.make(t), []*ecdsa.PublicKey{&ledger.PublicKey}
	res, err = Verify(e, want)
	wantOnly(t, res, err, "launch measurement: expected 1212")
}

func TestBadHashEnvelopes(t *testing.T) {
	ledger := ledgerKey(t)
	for _, tc := range []struct {
		name   string
		change func(*registered)
		want   string
	}{
		{"no receipt", func(r *registered) { r.receipts = func([]byte) any { return nil } }, "without a receipt"},
		{"an empty list of receipts", func(r *registered) { r.receipts = func([]byte) any { return []any{} } }, "without a receipt"},
		{"a receipt that is text", func(r *registered) { r.receipts = func([]byte) any { return []any{"x"} } }, "not COSE_Sign1"},
		{"another service", func(r *registered) { r.signer = ledgerKey(t) }, "signed by no transparency service that is believed"},
		{"another statement", func(r *registered) { r.leaf.Data = bytesOf(32, 9) }, "for another statement"},
		{"a weaker algorithm", func(r *registered) { r.alg = cose.AlgorithmES512 }, "not ES384"},
		{"another data structure", func(r *registered) { r.vds = int64(1) }, "about the data structure 1"},
		{"a root of its own", func(r *registered) { r.payload = bytesOf(32, 9) }, "brings its own root"},
		{"no proof", func(r *registered) { r.proofs = func([]byte) any { return map[any]any{} } }, "has 0 proofs"},
		{"two proofs", func(r *registered) {
			r.proofs = func(p []byte) any { return map[any]any{labelInclusion: []any{p, p}} }
		}, "has 2 proofs"},
		{"a proof of another shape", func(r *registered) {
			r.proofs = func([]byte) any { return map[any]any{labelInclusion: []any{[]byte{0x80}}} }
		}, "proof of inclusion"},
		{"another path", func(r *registered) {
			proofs := r.proofs
			r.proofs = func(p []byte) any { return proofs(bytes.Replace(p, bytesOf(32, 2), bytesOf(32, 5), 1)) }
		}, "signed by no transparency service"},
		{"a path that is short", func(r *registered) { r.path[1].Hash = r.path[1].Hash[:31] }, "a part of another length"},
		{"a path without end", func(r *registered) {
			for len(r.path) <= maxPath {
				r.path = append(r.path, r.path[0])
			}
		}, "a part of another length"},
		{"no claims", func(r *registered) { r.claims = nil }, "no CWT claims"},
		{"an SVN that is no number", func(r *registered) { r.claims["svn"] = "high" }, `SVN "high" is not a number`},
		{"no SVN", func(r *registered) { delete(r.claims, "svn") }, `SVN "<nil>" is not a number`},
		{"another issuer", func(r *registered) { r.claims[cwtIssuer] = MicrosoftUVMIssuer }, "does not lead to the issuer it names"},
		{"no issuer", func(r *registered) { delete(r.claims, cwtIssuer) }, "its issuer"},
		{"a longer measurement", func(r *registered) { r.measurement = bytesOf(49, 0x11) }, "has 49 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRegistered(ledger)
			tc.change(r)
			uvm, err := verifyUVM(r.make(t), []*ecdsa.PublicKey{&ledger.PublicKey})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %+v, %v, want %q", uvm, err, tc.want)
			}
		})
	}
}

// The receipt covers the signed statement: whoever changes a bit of either is
// refused.
func TestFlippedBitsOfAHashEnvelope(t *testing.T) {
	ledger := ledgerKey(t)
	raw := newRegistered(ledger).make(t)
	keys := []*ecdsa.PublicKey{&ledger.PublicKey}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1 << (i % 8)
		if _, err := verifyUVM(changed, keys); err == nil {
			t.Errorf("byte %#x changed and accepted", i)
		}
	}
}

func FuzzHashEnvelope(f *testing.F) {
	ledger := ledgerKey(f)
	good := newRegistered(ledger).make(f)
	keys := []*ecdsa.PublicKey{&ledger.PublicKey}
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if uvm, err := verifyUVM(raw, keys); err == nil && (uvm.svn != 104 || uvm.feed != UVMFeed) {
			t.Fatalf("a forged endorsement is accepted: %+v", uvm)
		}
	})
}

// FuzzReceipt reaches what the issuer's signature keeps out.
func FuzzReceipt(f *testing.F) {
	ledger := ledgerKey(f)
	r := newRegistered(ledger)
	r.leaf.Data = bytesOf(32, 9)
	f.Add(r.receipt(f))
	other := &ledgerKey(f).PublicKey
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkReceipt(raw, [32]byte(bytesOf(32, 9)), []*ecdsa.PublicKey{other}) == nil {
			t.Fatal("a receipt that nobody signed is accepted")
		}
	})
}
