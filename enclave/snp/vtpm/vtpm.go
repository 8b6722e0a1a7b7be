// Package vtpm is the platform of Azure's confidential VMs on AMD SEV-SNP: the
// processor's report, made at boot by the paravisor (HCL) and left in the vTPM,
// and that vTPM, which runs in the paravisor and signs for the present.
//
// Life of a report: snp.Collect calls Quote, which reads the HCL report from its
// NV index and has the attestation key quote the PCRs over the statement's 64
// bytes. Certificates come from the host's metadata service or AMD's. snp.Verify
// then follows processor → report → claims → attestation key → quote → statement.
//
// Life of a release: the attestation service puts the public half of a key that
// this TPM made and certified (NewKey) into its token, the vault wraps to it, and
// Key decrypts, inside the TPM, while the PCRs are still what they were.
//
// What there is not: a container policy. HOST_DATA is zero on these VMs, so
// nothing that expects one is ever satisfied here; a machine policy, which names
// PCRs, stands in its place (snp.VMExpectations), and no vault can enforce it.
package vtpm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"cloister/enclave/snp"
	"cloister/enclave/snp/hostcerts"
	"cloister/internal/fault"
)

// Handles that Azure reserves in the vTPM ("Confidential VM guest attestation
// design", TPM NV indexes and persistent handles).
const (
	hclIndex = 0x01400001
	akHandle = 0x81000003
	akCert   = 0x01c101d0 // DER, issued by Azure; zero-padded, may be missing
)

// Device is the TPM behind the kernel's resource manager, which keeps its users'
// keys and sessions apart.
const Device = "/dev/tpmrm0"

// quotedPCRs are all that the PC client profile gives the system to measure
// with. 16 and 23 are left out: any user may reset them.
var quotedPCRs = [...]uint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// Platform is a confidential VM. The zero value is the one this process is in.
type Platform struct {
	// TPM is the path of a device, or of a socket that a TPM answers on; "" is
	// Device. It is not trusted: the evidence it gives is judged.
	TPM string
	// Policy is the machine policy that the parties agreed on, see
	// snp.ParseVMPolicy: the host's word until its digest is found in the contract.
	Policy []byte
}

// Anchors returns the anchors that evidence of this platform is judged by.
func (Platform) Anchors() (snp.Anchors, error) { return snp.AMD() }

// SecurityContext has the machine policy only: there is no container platform.
func (p Platform) SecurityContext() (snp.SecurityContext, error) {
	return snp.SecurityContext{Policy: p.Policy}, nil
}

// certCache keeps what AMD's service gave.
const certCache = "/var/cache/cloister/certificates"

// Certificates fetches some that fit the report.
func (Platform) Certificates(ctx context.Context, r *snp.Report, given snp.HostCerts) (snp.HostCerts, error) {
	return hostcerts.Source{Cache: certCache}.For(ctx, r, given)
}

// GuestReport fails: the processor answers the paravisor, not the VM.
func (Platform) GuestReport(context.Context, [64]byte) ([]byte, error) {
	return nil, errors.New("a confidential VM has quotes made, not reports")
}

// Quote returns the report made at boot, and a quote over reportData. A command
// to the TPM cannot be interrupted; the context is looked at before it.
func (p Platform) Quote(ctx context.Context, reportData [64]byte) ([]byte, *snp.Quote, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	tpm, err := p.open()
	if err != nil {
		return nil, nil, err
	}
	defer tpm.Close()
	raw, err := readNV(tpm, hclIndex)
	if err != nil {
		return nil, nil, fault.Errorf(fault.NotFound, "run in a confidential VM of Azure", "reading the HCL report from NV index %#x: %w", hclIndex, err)
	}
	hcl, err := snp.ParseHCL(raw)
	if err != nil {
		return nil, nil, err
	}
	q, err := quote(tpm, reportData[:])
	if err != nil {
		return nil, nil, fmt.Errorf("quoting with the attestation key %#x: %w", akHandle, err)
	}
	q.Claims = hcl.Claims
	return hcl.Report, q, nil
}

// open connects to the TPM.
func (p Platform) open() (transport.TPMCloser, error) {
	path := p.TPM
	if path == "" {
		path = Device
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "run in a confidential VM and give the runtime "+path, "%w", err)
	}
	if info.Mode()&os.ModeSocket != 0 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return nil, fault.Errorf(fault.Unavailable, "", "connecting to the TPM: %w", err)
		}
		return transport.FromReadWriteCloser(conn), nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "give the runtime read and write access to "+path, "%w", err)
	}
	return transport.FromReadWriteCloser(f), nil
}

// nvBlock is how many bytes are read at once: every TPM allows 1024 (PC client
// profile, TPM_PT_NV_BUFFER_MAX is no less).
const nvBlock = 1024

func readNV(tpm transport.TPM, index uint32) ([]byte, error) {
	public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
	if err != nil {
		return nil, err
	}
	about, err := public.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	var out []byte
	for len(out) < int(about.DataSize) {
		read, err := tpm2.NVRead{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex:    tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: public.NVName},
			Size:       uint16(min(nvBlock, int(about.DataSize)-len(out))), Offset: uint16(len(out)),
		}.Execute(tpm)
		if err != nil {
			return nil, err
		}
		if len(read.Data.Buffer) == 0 {
			return nil, errors.New("the TPM returns no data")
		}
		out = append(out, read.Data.Buffer...)
	}
	return out, nil
}

// ak names the attestation key for a command that signs with it.
func ak(tpm transport.TPM) (tpm2.AuthHandle, *tpm2.ReadPublicResponse, error) {
	public, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(akHandle)}.Execute(tpm)
	if err != nil {
		return tpm2.AuthHandle{}, nil, err
	}
	return tpm2.AuthHandle{Handle: tpm2.TPMHandle(akHandle), Name: public.Name, Auth: tpm2.PasswordAuth(nil)}, public, nil
}

// keysScheme has a key sign in the scheme it was made for.
var keysScheme = tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}

func quote(tpm transport.TPM, data []byte) (*snp.Quote, error) {
	key, _, err := ak(tpm)
	if err != nil {
		return nil, err
	}
	made, err := tpm2.Quote{SignHandle: key, QualifyingData: tpm2.TPM2BData{Buffer: data}, InScheme: keysScheme, PCRSelect: selection(quotedPCRs[:]...)}.Execute(tpm)
	if err != nil {
		return nil, err
	}
	signature, err := rsassa(made.Signature)
	if err != nil {
		return nil, err
	}
	pcrs, err := readPCRs(tpm, quotedPCRs[:])
	return &snp.Quote{Message: made.Quoted.Bytes(), Signature: signature, PCRs: pcrs}, err
}

func rsassa(s tpm2.TPMTSignature) ([]byte, error) {
	rsa, err := s.Signature.RSASSA()
	if err != nil {
		return nil, fmt.Errorf("the attestation key does not sign by RSASSA: %w", err)
	}
	return rsa.Sig.Buffer, nil
}

func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

// readPCRs reads one PCR a command: a TPM may return fewer than it is asked for.
func readPCRs(tpm transport.TPM, pcrs []uint) (snp.PCRs, error) {
	out := snp.PCRs{}
	for _, i := range pcrs {
		read, err := tpm2.PCRRead{PCRSelectionIn: selection(i)}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("reading PCR %d: %w", i, err)
		}
		if len(read.PCRValues.Digests) != 1 || len(read.PCRValues.Digests[0].Buffer) != 32 {
			return nil, fmt.Errorf("reading PCR %d: the TPM has no SHA-256 bank", i)
		}
		out[i] = [32]byte(read.PCRValues.Digests[0].Buffer)
	}
	return out, nil
}
