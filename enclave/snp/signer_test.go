package snp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	sevtest "github.com/google/go-sev-guest/testing"
	"github.com/veraison/go-cose"
)

// guest is a software processor's guest: the library's own test chain signs
// whatever the fields say, so that bad guests can be made.
type guest struct {
	product string // "Milan-B1"
	version uint32
	vlek    bool
	report  *spb.Report
	uvm     uvmStatement
	certTCB kds.TCBParts
}

type uvmStatement struct {
	issuer, feed, svn, measurement string
	algorithm                      cose.Algorithm
	usage                          asn1.ObjectIdentifier
}

var testTCB = kds.TCBParts{BlSpl: 3, SnpSpl: 8, UcodeSpl: 115}

// eaxOf gives CPUID(1).EAX of the products' stepping B1.
var eaxOf = map[string]uint32{"Milan-B1": 0x00a00f11, "Genoa-B1": 0x00a10f11, "Turin-B1": 0x00b00f21}

func goodGuest() *guest {
	tcb, _ := kds.ComposeTCBParts(testTCB)
	fill := func(n int, b byte) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = b
		}
		return out
	}
	measurement := fill(48, 0x11)
	return &guest{
		product: "Milan-B1", version: 3, certTCB: testTCB,
		report: &spb.Report{
			GuestSvn: 2, Policy: abi.SnpPolicyToBytes(abi.SnpPolicy{SMT: true, ABIMinor: 0x1f}),
			FamilyId: fill(16, 0), ImageId: fill(16, 0), SignatureAlgo: abi.SignEcdsaP384Sha384,
			CurrentTcb: uint64(tcb), ReportedTcb: uint64(tcb), CommittedTcb: uint64(tcb), LaunchTcb: uint64(tcb),
			ReportData: fill(64, 0x22), Measurement: measurement, HostData: fill(32, 0x33),
			IdKeyDigest: fill(48, 0), AuthorKeyDigest: fill(48, 0), ReportId: fill(32, 0x44),
			ReportIdMa: fill(32, 0xff), ChipId: fill(64, 0x55), Signature: fill(512, 0),
		},
		uvm: uvmStatement{
			issuer: testIssuer().did, feed: UVMFeed, svn: "100", measurement: hex.EncodeToString(measurement),
			algorithm: cose.AlgorithmPS384, usage: testUsage,
		},
	}
}

// evidence signs and returns what the guest would show, and what it is judged
// by.
func (g *guest) evidence(t testing.TB) (*Evidence, Expectations) {
	t.Helper()
	exts := func(hwid []byte) sevtest.CertOverride {
		list := sevtest.CustomExtensions(g.certTCB, hwid, "test", g.product)
		if g.isTurin() {
			list = turinExtensions(list)
		}
		return sevtest.CertOverride{Extensions: list}
	}
	now := time.Now()
	builder := &sevtest.AmdSignerBuilder{
		Keys: sevtest.DefaultAmdKeys(), ProductName: g.product, CSPID: "test",
		ArkCreationTime: now, AskCreationTime: now, AsvkCreationTime: now, VcekCreationTime: now, VlekCreationTime: now,
		VcekCustom: exts(bytesOf(64, 0x55)), VlekCustom: exts(nil),
	}
	signer, err := builder.TestOnlyCertChain()
	if err != nil {
		t.Fatal(err)
	}
	g.report.Version = g.version
	if g.isTurin() {
		g.layOutAsTurin()
	}
	if g.version >= 3 {
		g.report.Cpuid1EaxFms = eaxOf[g.product]
	}
	chain := []*x509.Certificate{signer.Vcek, signer.Ask, signer.Ark}
	if g.vlek {
		chain = []*x509.Certificate{signer.Vlek, signer.Asvk, signer.Ark}
		g.report.SignerInfo = abi.ComposeSignerInfo(abi.SignerInfo{SigningKey: abi.VlekReportSigner})
	}
	e := &Evidence{Report: g.sign(t, signer)}
	e.HostCerts.Chain = chain
	e.UVM = g.uvm.sign(t)
	return e, Expectations{
		Anchors:  Anchors{Name: "test", Roots: []*x509.Certificate{signer.Ark}, UVMIssuer: testIssuer().did, UVMFeed: UVMFeed},
		HostData: bytesOf(32, 0x33), ReportData: bytesOf(64, 0x22), SMT: SMTAllowed,
		MinTCB: Floors{
			Milan: {Bootloader: 3, SNP: 8, Microcode: 115}, Genoa: {Bootloader: 3, SNP: 8, Microcode: 115},
			Turin: {FMC: turinFMC, Bootloader: 3, SNP: 8, Microcode: 115},
		}, MinUVMSVN: 100,
	}
}

func (g *guest) isTurin() bool { return strings.HasPrefix(g.product, "Turin") }

// turinFMC is the level that only Turin has.
const turinFMC = 2

// turinExtensions turns a certificate's extensions into those of Turin.
func turinExtensions(list []pkix.Extension) []pkix.Extension {
	fmc, _ := asn1.Marshal(turinFMC)
	list = append(list, pkix.Extension{Id: oidFMC, Value: fmc})
	for i := range list {
		if list[i].Id.Equal(kds.OidHwid) {
			list[i].Value = bytesOf(turinChipID, 0x55)
		}
	}
	return list
}

// layOutAsTurin moves what the report says to where Turin says it.
func (g *guest) layOutAsTurin() {
	move := func(tcb uint64) uint64 {
		p := kds.DecomposeTCBVersion(kds.TCBVersion(tcb))
		return turinFMC | uint64(p.BlSpl)<<8 | uint64(p.TeeSpl)<<16 | uint64(p.SnpSpl)<<24 | uint64(p.UcodeSpl)<<56
	}
	r := g.report
	r.CurrentTcb, r.ReportedTcb, r.CommittedTcb, r.LaunchTcb = move(r.CurrentTcb), move(r.ReportedTcb), move(r.CommittedTcb), move(r.LaunchTcb)
	clear(r.ChipId[turinChipID:])
}

func (g *guest) sign(t testing.TB, signer *sevtest.AmdSigner) []byte {
	raw, err := abi.ReportToAbiBytes(g.report)
	if err != nil {
		t.Fatal(err)
	}
	key := signer.Keys.Vcek
	if g.vlek {
		key = signer.Keys.Vlek
	}
	digest := sha512.Sum384(abi.SignedComponent(raw))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := abi.SetSignature(r, s, raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

func bytesOf(n int, b byte) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

var testUsage = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}

type issuer struct {
	did       string
	leaf      *rsa.PrivateKey
	chain     []any // DER, leaf first
	caKey     *rsa.PrivateKey
	ca        *x509.Certificate
	otherLeaf []byte // the same key without the usage
}

// testIssuer signs utility VMs, as its did:x509 says.
var testIssuer = sync.OnceValue(func() *issuer {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	caKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	leafKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	caTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, &caKey.PublicKey, caKey)
	must(err)
	ca, err := x509.ParseCertificate(caDER)
	must(err)
	leaf := func(usage ...asn1.ObjectIdentifier) []byte {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, UnknownExtKeyUsage: usage,
			// Expired, as real leaf certificates are.
			NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		}, ca, &leafKey.PublicKey, caKey)
		must(err)
		return der
	}
	sum := sha256.Sum256(caDER)
	return &issuer{
		did:  "did:x509:0:sha256:" + base64.RawURLEncoding.EncodeToString(sum[:]) + "::eku:" + testUsage.String(),
		leaf: leafKey, chain: []any{leaf(testUsage), caDER}, caKey: caKey, ca: ca, otherLeaf: leaf(),
	}
})

func (s uvmStatement) sign(t testing.TB) []byte {
	t.Helper()
	payload, err := json.Marshal(map[string]string{
		"x-ms-sevsnpvm-guestsvn": s.svn, "x-ms-sevsnpvm-launchmeasurement": s.measurement,
	})
	if err != nil {
		t.Fatal(err)
	}
	chain := testIssuer().chain
	if s.usage == nil {
		chain = []any{testIssuer().otherLeaf, chain[1]}
	}
	msg := cose.NewSign1Message()
	msg.Payload = payload
	msg.Headers.Protected.SetAlgorithm(s.algorithm)
	msg.Headers.Protected[cose.HeaderLabelX5Chain] = chain
	msg.Headers.Protected["iss"] = s.issuer
	msg.Headers.Protected["feed"] = s.feed
	signer, err := cose.NewSigner(s.algorithm, crypto.Signer(testIssuer().leaf))
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	raw, err := msg.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func svnOf(n int) string { return strconv.Itoa(n) }
