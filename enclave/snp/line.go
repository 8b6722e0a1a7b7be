package snp

import (
	"encoding/binary"
	"strings"

	"github.com/google/go-sev-guest/abi"
)

// Line is a family of processors that share roots, certificate layout and the
// numbering of their firmware, under AMD's own name (AMD 57230, table 4).
type Line string

const (
	Milan Line = "Milan"
	Genoa Line = "Genoa" // Bergamo and Siena with it
	Turin Line = "Turin"
)

// Floors are the lowest acceptable TCB of each line. A line that has none, or a
// zero one, is refused.
type Floors map[Line]TCB

// BaseFloors are below every firmware that AMD still supports: what is recent
// enough for the parties' keys is for the attestation service's policy to say.
// Milan's is the oldest genuine report of Azure's containers that is known to
// us (2022). Turin counts anew from 1.
func BaseFloors() Floors {
	return Floors{
		Milan: {Bootloader: 3, SNP: 8, Microcode: 115},
		Genoa: {Bootloader: 3, SNP: 8},
		Turin: {Bootloader: 1, SNP: 1},
	}
}

// lineOfReport reads the CPUID family and model, which reports name from
// version 3 on (AMD 56860, table 23); "" where there are none, or others.
func lineOfReport(raw []byte) Line {
	if binary.LittleEndian.Uint32(raw) < abi.ReportVersion3 {
		return ""
	}
	switch family, model := raw[0x188], raw[0x189]; {
	case family == 0x19 && model <= 0x0f:
		return Milan
	case family == 0x19 && (model>>4 == 1 || model>>4 == 0xa):
		return Genoa
	case family == turinFamily && model <= 0x1f:
		return Turin
	default:
		return ""
	}
}

// lineOfCerts reads the name of the leaf's issuer, SEV-Milan or
// SEV-VLEK-Milan. It is true when the chain is.
func lineOfCerts(certs HostCerts) Line {
	if len(certs.Chain) == 0 {
		return ""
	}
	name := strings.TrimPrefix(certs.Chain[0].Issuer.CommonName, "SEV-")
	return Line(strings.TrimPrefix(name, "VLEK-"))
}
