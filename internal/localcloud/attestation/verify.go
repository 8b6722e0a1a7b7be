package attestation

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"cloister/internal/localcloud/platform"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
	"github.com/veraison/go-cose"
)

// verify checks that the evidence is authentic. It does not judge it: a
// debuggable guest gets a token that says so.
func (s *Service) verify(e *evidence) error {
	if err := s.verifyReport(e); err != nil {
		return fmt.Errorf("attestation report: %w", err)
	}
	if err := verifyCertificate(e); err != nil {
		return fmt.Errorf("VCEK certificate: %w", err)
	}
	want := sha256.Sum256(e.runtimeData)
	if !bytes.Equal(e.report.ReportData, append(want[:], make([]byte, 32)...)) {
		return errors.New("the hash of runtimeData does not match the report's REPORT_DATA")
	}
	if e.report.Vmpl == math.MaxUint32 {
		return errors.New("attestation report: the host asked for it, not the guest (VMPL 0xFFFFFFFF)")
	}
	if err := s.verifyEndorsement(e); err != nil {
		return fmt.Errorf("utility VM endorsement: %w", err)
	}
	return nil
}

// verifyReport checks signature and chain against the simulated root alone:
// real evidence is refused here, as AMD's roots refuse simulated evidence.
func (s *Service) verifyReport(e *evidence) error {
	ask, ark := s.platform.Chain()
	roots := trust.AMDRootCertsProduct(s.platform.ProductLine())
	roots.ProductCerts = &trust.ProductCerts{Ask: ask, Ark: ark}
	return verify.SnpAttestation(&spb.Attestation{
		Report:           e.report,
		CertificateChain: &spb.CertificateChain{VcekCert: e.vcek.Raw, AskCert: ask.Raw, ArkCert: ark.Raw},
	}, &verify.Options{
		DisableCertFetching: true,
		TrustedRoots:        map[string][]*trust.AMDRootCerts{s.platform.ProductLine(): {roots}},
		Now:                 time.Now(),
	})
}

// verifyCertificate checks that the certificate is of the chip and the TCB that
// the report names: the library leaves that to its caller.
func verifyCertificate(e *evidence) error {
	extensions, err := kds.VcekCertificateExtensions(e.vcek)
	if err != nil {
		return err
	}
	if uint64(extensions.TCBVersion) != e.report.ReportedTcb {
		return fmt.Errorf("it is for TCB %016x, the report's is %016x", uint64(extensions.TCBVersion), e.report.ReportedTcb)
	}
	if !bytes.Equal(extensions.HWID, e.report.ChipId) {
		return errors.New("it is for another chip")
	}
	return nil
}

func (s *Service) verifyEndorsement(e *evidence) error {
	message := cose.NewSign1Message()
	if err := message.UnmarshalCBOR(e.endorsement); err != nil {
		return err
	}
	leaf, err := s.endorsementLeaf(message.Headers.Protected)
	if err != nil {
		return err
	}
	key, ok := leaf.PublicKey.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("the leaf's key is a %T, not RSA", leaf.PublicKey)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmPS384, key)
	if err != nil {
		return err
	}
	if err := message.Verify(nil, verifier); err != nil {
		return err
	}
	return checkEndorsed(message.Payload, e.report)
}

// endorsementLeaf returns the certificate that signed, after its chain, issuer
// and feed are found to be the simulated platform's.
func (s *Service) endorsementLeaf(header cose.ProtectedHeader) (*x509.Certificate, error) {
	if issuer, _ := header["iss"].(string); issuer != s.platform.Issuer() {
		return nil, fmt.Errorf("issuer %q is not the simulated platform's", issuer)
	}
	if feed, _ := header["feed"].(string); feed != platform.Feed {
		return nil, fmt.Errorf("feed %q is not %q", feed, platform.Feed)
	}
	chain, _ := header[cose.HeaderLabelX5Chain].([]any)
	if len(chain) == 0 {
		return nil, errors.New("no certificate chain in the protected header")
	}
	der, _ := chain[0].([]byte)
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.platform.EndorsementRoot())
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(leaf.UnknownExtKeyUsage, func(id asn1.ObjectIdentifier) bool { return id.String() == s.platform.EndorsementUsage() }) {
		return nil, fmt.Errorf("the leaf lacks the extended key usage %s", s.platform.EndorsementUsage())
	}
	return leaf, nil
}

func checkEndorsed(payload []byte, report *spb.Report) error {
	var endorsed struct {
		Measurement string `json:"x-ms-sevsnpvm-launchmeasurement"`
	}
	if err := json.Unmarshal(payload, &endorsed); err != nil {
		return err
	}
	measurement, err := hex.DecodeString(endorsed.Measurement)
	if err != nil || len(measurement) != abi.MeasurementSize {
		return errors.New("the endorsed measurement is not 48 bytes in hex")
	}
	if !bytes.Equal(measurement, report.Measurement) {
		return errors.New("the endorsed measurement is not the report's")
	}
	return nil
}
