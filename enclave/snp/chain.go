package snp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
)

// checkSignature verifies the report's signature and the chain to the anchors'
// roots through go-sev-guest, never fetching anything. Importing its verify
// package registers a flag with the flag package's global set; no binary of
// ours parses that set (a test holds this), so the flag keeps its default.
func checkSignature(r *Report, certs HostCerts, anchors Anchors, now time.Time) error {
	if len(anchors.Roots) == 0 {
		return errors.New("no trust root is stated")
	}
	if len(certs.Chain) == 0 {
		return errors.New("the evidence has no certificate")
	}
	roots := trustedRoots(certs, anchors)
	if len(roots) == 0 {
		// The library would take AMD's embedded roots instead of none.
		return errors.New("no signing key is given under the trusted roots: it could not be verified by any trusted roots")
	}
	if r.Line == Turin {
		return checkTurinSignature(r, certs, roots[string(Turin)], now)
	}
	chain := &spb.CertificateChain{}
	if r.VLEK {
		chain.VlekCert = certs.Chain[0].Raw
	} else {
		chain.VcekCert = certs.Chain[0].Raw
	}
	return verify.SnpAttestation(
		&spb.Attestation{Report: r.proto, CertificateChain: chain},
		&verify.Options{DisableCertFetching: true, Now: now, TrustedRoots: roots},
	)
}

// trustedRoots pairs each of the anchors' roots with the signing keys that may
// stand under it. The library checks the signatures between them, so a signing
// key from the evidence is safe to offer.
func trustedRoots(certs HostCerts, anchors Anchors) map[string][]*trust.AMDRootCerts {
	roots := map[string][]*trust.AMDRootCerts{}
	offered := append(append([]*x509.Certificate{}, certs.Chain[1:]...), anchors.Intermediates...)
	for _, ark := range anchors.Roots {
		line, ok := strings.CutPrefix(ark.Subject.CommonName, "ARK-")
		if !ok {
			continue
		}
		for _, ica := range offered {
			root := trust.AMDRootCertsProduct(line)
			root.ProductCerts = &trust.ProductCerts{Ark: ark}
			switch ica.Subject.CommonName {
			case "SEV-" + line:
				root.ProductCerts.Ask = ica
			case "SEV-VLEK-" + line:
				root.ProductCerts.Asvk = ica
			default:
				continue
			}
			roots[line] = append(roots[line], root)
		}
	}
	return roots
}

// endorsement is what the endorsement key's certificate says about itself.
type endorsement struct {
	tcb    uint64
	hasTCB bool
	chipID []byte // VCEK only
}

func readEndorsement(r *Report, certs HostCerts) endorsement {
	if len(certs.Chain) == 0 {
		return endorsement{}
	}
	if r.Line == Turin {
		return readTurinEndorsement(certs.Chain[0], r.VLEK)
	}
	signer := abi.VcekReportSigner
	if r.VLEK {
		signer = abi.VlekReportSigner
	}
	ext, err := kds.CertificateExtensions(certs.Chain[0], signer)
	if err != nil {
		return endorsement{}
	}
	return endorsement{tcb: uint64(ext.TCBVersion), hasTCB: true, chipID: ext.HWID}
}

// checkRevocation looks the evidence's certificates up in the anchors' lists.
// It returns what it found and whether that is good.
func checkRevocation(certs HostCerts, anchors Anchors, now time.Time) (string, bool) {
	if len(anchors.CRLs) == 0 {
		return "no list given", true
	}
	for _, crl := range anchors.CRLs {
		if !signedByRoot(crl, anchors.Roots) {
			return "a list that no root signed", false
		}
		if now.After(crl.NextUpdate) {
			return "a list that ran out at " + crl.NextUpdate.UTC().Format(time.RFC3339), false
		}
		for _, cert := range usedCertificates(certs, anchors) {
			if onList(crl, cert) {
				return cert.Subject.CommonName + " is revoked", false
			}
		}
	}
	return "none revoked", true
}

func signedByRoot(crl *x509.RevocationList, roots []*x509.Certificate) bool {
	return slices.ContainsFunc(roots, func(root *x509.Certificate) bool { return crl.CheckSignatureFrom(root) == nil })
}

// usedCertificates are the evidence's, and the anchors' that may have signed
// its leaf.
func usedCertificates(certs HostCerts, anchors Anchors) []*x509.Certificate {
	used := slices.Clone(certs.Chain)
	for _, ica := range anchors.Intermediates {
		if len(certs.Chain) > 0 && bytes.Equal(ica.RawSubject, certs.Chain[0].RawIssuer) {
			used = append(used, ica)
		}
	}
	return used
}

func onList(crl *x509.RevocationList, cert *x509.Certificate) bool {
	return bytes.Equal(crl.RawIssuer, cert.RawIssuer) &&
		slices.ContainsFunc(crl.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
			return e.SerialNumber.Cmp(cert.SerialNumber) == 0
		})
}
