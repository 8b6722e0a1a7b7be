package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
)

// Turin's endorsement keys have a certificate of another layout, which
// go-sev-guest v0.15.0 refuses ("not an AMD KDS OID", "HWID size is 8, expected
// 64"). What it would do for them is done here, with its own parts where they
// do not look inside that certificate.

// oidFMC is the patch level of the first mutable code (AMD 57230, table 8).
var oidFMC = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3, 9}

// turinChipID is the number of bytes of CHIP_ID that are used; the rest is zero
// (AMD 56860, table 23).
const turinChipID = 8

func checkTurinSignature(r *Report, certs HostCerts, roots []*trust.AMDRootCerts, now time.Time) error {
	leaf := certs.Chain[0]
	if err := checkTurinLeaf(leaf, r.VLEK); err != nil {
		return err
	}
	err := errors.New("no signing key is under the roots")
	for _, root := range roots {
		ica := root.ProductCerts.Ask
		if r.VLEK {
			ica = root.ProductCerts.Asvk
		}
		if ica == nil {
			continue
		}
		if err = chainUnder(leaf, ica, root.ProductCerts.Ark, now); err == nil {
			return verify.SnpProtoReportSignature(r.proto, leaf)
		}
	}
	return fmt.Errorf("the certificate could not be verified by any trusted roots: %w", err)
}

// checkTurinLeaf holds the endorsement key's certificate to AMD's profile.
func checkTurinLeaf(leaf *x509.Certificate, vlek bool) error {
	name := "SEV-VCEK"
	if vlek {
		name = "SEV-VLEK"
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case leaf.Subject.CommonName != name:
		return fmt.Errorf("the certificate is of %.40q, expected %s", leaf.Subject.CommonName, name)
	case leaf.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return fmt.Errorf("the certificate is signed by %v, expected RSASSA-PSS with SHA-384", leaf.SignatureAlgorithm)
	case !ok || key.Curve != elliptic.P384():
		return errors.New("the certificate's key is not ECDSA on P-384")
	}
	return nil
}

func chainUnder(leaf, ica, ark *x509.Certificate, now time.Time) error {
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	opts.Roots.AddCert(ark)
	opts.Intermediates.AddCert(ica)
	_, err := leaf.Verify(opts)
	return err
}

// readTurinEndorsement is readEndorsement for Turin's layout.
func readTurinEndorsement(leaf *x509.Certificate, vlek bool) endorsement {
	var e endorsement
	// TCB_VERSION of Turin, lowest byte first (AMD 56860, table 4).
	for _, level := range []struct {
		oid   asn1.ObjectIdentifier
		shift uint
	}{{oidFMC, 0}, {kds.OidBlSpl, 8}, {kds.OidTeeSpl, 16}, {kds.OidSnpSpl, 24}, {kds.OidUcodeSpl, 56}} {
		n, ok := patchLevel(leaf, level.oid)
		if !ok {
			return endorsement{}
		}
		e.tcb |= uint64(n) << level.shift
	}
	e.hasTCB = true
	if !vlek {
		e.chipID = turinHWID(leaf)
	}
	return e
}

// turinHWID returns the chip id as reports write it, or nil. AMD leaves the
// type out; the library accepts both forms for the other lines.
func turinHWID(leaf *x509.Certificate) []byte {
	ext := extension(leaf, kds.OidHwid)
	if ext == nil {
		return nil
	}
	id := ext.Value
	if len(id) != turinChipID {
		if rest, err := asn1.Unmarshal(ext.Value, &id); err != nil || len(rest) > 0 || len(id) != turinChipID {
			return nil
		}
	}
	return append(slices.Clone(id), make([]byte, abi.ChipIDSize-turinChipID)...)
}

func patchLevel(cert *x509.Certificate, oid asn1.ObjectIdentifier) (uint8, bool) {
	ext := extension(cert, oid)
	if ext == nil {
		return 0, false
	}
	var n int
	rest, err := asn1.Unmarshal(ext.Value, &n)
	return uint8(n), err == nil && len(rest) == 0 && n >= 0 && n <= 255
}

// extension returns the one extension of that kind; two would be one too many.
func extension(cert *x509.Certificate, oid asn1.ObjectIdentifier) *pkix.Extension {
	var found *pkix.Extension
	for i := range cert.Extensions {
		if !cert.Extensions[i].Id.Equal(oid) {
			continue
		}
		if found != nil {
			return nil
		}
		found = &cert.Extensions[i]
	}
	return found
}
