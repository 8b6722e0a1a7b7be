package broker

import (
	"crypto/x509"
	"encoding/binary"
	"fmt"

	"cloister/enclave/snp"
)

// evidence is a guest's, as the implementation's client writes it.
type evidence struct {
	Report report `json:"attestation_report"`
	Chain  []struct {
		Type string `json:"cert_type"`
		Data []int  `json:"data"`
	} `json:"cert_chain"`
}

type tcb struct {
	FMC        *uint8 `json:"fmc"`
	Bootloader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

type version struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

// report is a report's fields (AMD 56860, table 23).
type report struct {
	Version         uint32  `json:"version"`
	GuestSVN        uint32  `json:"guest_svn"`
	Policy          uint64  `json:"policy"`
	FamilyID        []int   `json:"family_id"`
	ImageID         []int   `json:"image_id"`
	VMPL            uint32  `json:"vmpl"`
	SigAlgo         uint32  `json:"sig_algo"`
	CurrentTCB      tcb     `json:"current_tcb"`
	PlatInfo        uint64  `json:"plat_info"`
	KeyInfo         uint32  `json:"key_info"`
	ReportData      []int   `json:"report_data"`
	Measurement     []int   `json:"measurement"`
	HostData        []int   `json:"host_data"`
	IDKeyDigest     []int   `json:"id_key_digest"`
	AuthorKeyDigest []int   `json:"author_key_digest"`
	ReportID        []int   `json:"report_id"`
	ReportIDMA      []int   `json:"report_id_ma"`
	ReportedTCB     tcb     `json:"reported_tcb"`
	Family          *uint8  `json:"cpuid_fam_id"`
	Model           *uint8  `json:"cpuid_mod_id"`
	Stepping        *uint8  `json:"cpuid_step"`
	ChipID          []int   `json:"chip_id"`
	CommittedTCB    tcb     `json:"committed_tcb"`
	Current         version `json:"current"`
	Committed       version `json:"committed"`
	LaunchTCB       tcb     `json:"launch_tcb"`
	LaunchMit       *uint64 `json:"launch_mit_vector"`
	CurrentMit      *uint64 `json:"current_mit_vector"`
	Signature       struct {
		R []int `json:"r"`
		S []int `json:"s"`
	} `json:"signature"`
}

// minReport is the lowest layout that the implementation's verifier takes.
const minReport = 3

// bytes makes the raw report again: what the fields do not hold is zero.
func (r report) bytes() ([]byte, error) {
	if r.Version < minReport {
		return nil, fmt.Errorf("the report is of version %d, and %d is the lowest that says which processor it is of", r.Version, minReport)
	}
	out := make([]byte, snp.ReportSize)
	for _, f := range []struct {
		name    string
		at, end int
		bytes   []int
	}{
		{"family_id", 0x10, 0x20, r.FamilyID}, {"image_id", 0x20, 0x30, r.ImageID}, {"report_data", 0x50, 0x90, r.ReportData},
		{"measurement", 0x90, 0xc0, r.Measurement}, {"host_data", 0xc0, 0xe0, r.HostData}, {"id_key_digest", 0xe0, 0x110, r.IDKeyDigest},
		{"author_key_digest", 0x110, 0x140, r.AuthorKeyDigest}, {"report_id", 0x140, 0x160, r.ReportID}, {"report_id_ma", 0x160, 0x180, r.ReportIDMA},
		{"chip_id", 0x1a0, 0x1e0, r.ChipID}, {"signature.r", 0x2a0, 0x2e8, r.Signature.R}, {"signature.s", 0x2e8, 0x330, r.Signature.S},
	} {
		if err := fill(out[f.at:f.end], f.bytes); err != nil {
			return nil, fmt.Errorf("attestation_report.%s: %w", f.name, err)
		}
	}
	r.numbers(out)
	return out, nil
}

func (r report) numbers(out []byte) {
	le := binary.LittleEndian
	le.PutUint32(out, r.Version)
	le.PutUint32(out[0x4:], r.GuestSVN)
	le.PutUint64(out[0x8:], r.Policy)
	le.PutUint32(out[0x30:], r.VMPL)
	le.PutUint32(out[0x34:], r.SigAlgo)
	le.PutUint64(out[0x40:], r.PlatInfo)
	le.PutUint32(out[0x48:], r.KeyInfo)
	for at, t := range map[int]tcb{0x38: r.CurrentTCB, 0x180: r.ReportedTCB, 0x1e0: r.CommittedTCB, 0x1f0: r.LaunchTCB} {
		t.put(out[at:])
	}
	for at, v := range map[int]version{0x1e8: r.Current, 0x1ec: r.Committed} {
		out[at], out[at+1], out[at+2] = v.Build, v.Minor, v.Major
	}
	for at, n := range map[int]*uint8{0x188: r.Family, 0x189: r.Model, 0x18a: r.Stepping} {
		if n != nil {
			out[at] = *n
		}
	}
	for at, n := range map[int]*uint64{0x1f8: r.LaunchMit, 0x200: r.CurrentMit} {
		if n != nil {
			le.PutUint64(out[at:], *n)
		}
	}
}

func (t tcb) put(out []byte) {
	if t.FMC != nil {
		out[0], out[1], out[2], out[3], out[7] = *t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode
		return
	}
	out[0], out[1], out[6], out[7] = t.Bootloader, t.TEE, t.SNP, t.Microcode
}

func fill(out []byte, list []int) error {
	if len(list) != len(out) {
		return fmt.Errorf("it has %d bytes, not %d", len(list), len(out))
	}
	for i, n := range list {
		if n < 0 || n > 255 {
			return fmt.Errorf("%d is no byte", n)
		}
		out[i] = byte(n)
	}
	return nil
}

// maxChain is more than any chain has: leaf, signing key, root.
const maxChain = 5

// certificates returns the chain, the leaf first.
func (e evidence) certificates() ([]*x509.Certificate, error) {
	if len(e.Chain) > maxChain {
		return nil, fmt.Errorf("cert_chain has %d certificates", len(e.Chain))
	}
	var chain []*x509.Certificate
	for _, c := range e.Chain {
		der := make([]byte, len(c.Data))
		if err := fill(der, c.Data); err != nil {
			return nil, fmt.Errorf("cert_chain: %w", err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("cert_chain: %s: %w", c.Type, err)
		}
		if leaf := c.Type == "VCEK" || c.Type == "VLEK"; leaf {
			chain = append([]*x509.Certificate{cert}, chain...)
		} else {
			chain = append(chain, cert)
		}
	}
	return chain, nil
}
