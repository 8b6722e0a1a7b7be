package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"

	"cloister/internal/fault"
)

const (
	// maxHostCerts bounds the certificates' text in bytes; real ones have 7 KiB.
	maxHostCerts = 64 << 10
	// maxChain bounds the certificates of one chain; AMD's has three.
	maxChain = 8
)

// HostCerts are the host's certificates: the processor's endorsement key (VCEK
// or VLEK) first, then AMD's signing and root keys, as far as given. They prove
// nothing until Verify has followed them to an anchor.
type HostCerts struct {
	Chain []*x509.Certificate
	TCBM  string // the TCB version the leaf belongs to, 16 hex digits; may be empty
}

// thim is what Azure's host gives (THIM, /metadata/THIM/amd/certification).
type thim struct {
	VCEKCert         string `json:"vcekCert"`
	TCBM             string `json:"tcbm"`
	CertificateChain string `json:"certificateChain"`
	CacheControl     string `json:"cacheControl"`
}

// ParseHostCerts reads THIM's JSON or a PEM chain, either of them also in
// base64.
func ParseHostCerts(data []byte) (HostCerts, error) {
	if len(data) > maxHostCerts {
		return HostCerts{}, badCerts("they have %d bytes, more than the %d allowed", len(data), maxHostCerts)
	}
	data = bytes.TrimSpace(data)
	if raw, err := base64.StdEncoding.DecodeString(string(data)); err == nil {
		data = bytes.TrimSpace(raw)
	}
	if bytes.HasPrefix(data, []byte("{")) {
		return parseTHIM(data)
	}
	chain, err := parsePEM(data)
	return HostCerts{Chain: chain}, err
}

func parseTHIM(data []byte) (HostCerts, error) {
	var t thim
	if err := json.Unmarshal(data, &t); err != nil {
		return HostCerts{}, badCerts("%v", err)
	}
	chain, err := parsePEM([]byte(t.VCEKCert + "\n" + t.CertificateChain))
	return HostCerts{Chain: chain, TCBM: t.TCBM}, err
}

func parsePEM(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		data = rest
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badCerts("certificate %d: %v", len(chain)+1, err)
		}
		if chain = append(chain, cert); len(chain) > maxChain {
			return nil, badCerts("they are more than %d", maxChain)
		}
	}
	if len(bytes.TrimSpace(data)) > 0 {
		return nil, badCerts("there is something that is not a PEM certificate")
	}
	if len(chain) == 0 {
		return nil, badCerts("there is none")
	}
	return chain, nil
}

// PEM returns the chain in the order given.
func (h HostCerts) PEM() []byte {
	var out []byte
	for _, cert := range h.Chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

// Fit reports whether the leaf is of the chip and the TCB that signed the
// report. Whether it is genuine is Verify's to say.
func (h HostCerts) Fit(r *Report) bool {
	key := readEndorsement(r, h)
	masked := r.ChipID == [64]byte{}
	return key.hasTCB && key.tcb == r.ReportedVersion() && (r.VLEK || masked || string(key.chipID) == string(r.ChipID[:]))
}

func badCerts(format string, args ...any) error {
	return fault.Errorf(fault.Refused, "", "the host's certificates cannot be read: "+format, args...)
}
