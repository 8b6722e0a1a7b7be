package snp

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/google/go-tpm/tpm2"

	"cloister/internal/fault"
)

// Quote is what speaks for the present in a confidential VM, whose hardware
// report was made once at boot: a TPM quote by the key in the report's claims.
//
// The report proves that the processor started a measured paravisor (at VMPL 0,
// where the VM's own system, at VMPL 2, cannot have reports made) and that this
// paravisor's TPM holds the attestation key. The quote proves that this TPM was
// asked about our statement, and which PCRs it had then. Neither proves which
// process asked: whoever may use the TPM of that VM can have anything quoted,
// so a quote is worth what the PCRs say about the system that guards it.
type Quote struct {
	Claims    []byte // the HCL's, see HCL
	Message   []byte // TPMS_ATTEST; its extraData are the statement's 64 bytes
	Signature []byte // RSASSA-PKCS1-v1_5 with SHA-256, by the HCL's key
	PCRs      PCRs   // the values quoted
}

// PCRs are values of the SHA-256 bank.
type PCRs map[uint][sha256.Size]byte

// maxPCR is the last of the PC client profile.
const maxPCR = 23

// Indexes returns the PCRs in rising order.
func (p PCRs) Indexes() []uint { return slices.Sorted(maps.Keys(p)) }

// Digest is what a quote signs of the values: SHA-256 of them in rising order.
func (p PCRs) Digest() []byte {
	h := sha256.New()
	for _, i := range p.Indexes() {
		value := p[i]
		h.Write(value[:])
	}
	return h.Sum(nil)
}

// quoteFile is a quote in JSON, as VMs hand it to auditors.
type quoteFile struct {
	Message   []byte            `json:"message"`
	Signature []byte            `json:"signature"`
	PCRs      map[string]string `json:"pcrs"` // index: 64 hex digits
}

// JSON writes message, signature and PCRs.
func (q *Quote) JSON() ([]byte, error) {
	f := quoteFile{Message: q.Message, Signature: q.Signature, PCRs: map[string]string{}}
	for i, value := range q.PCRs {
		f.PCRs[strconv.FormatUint(uint64(i), 10)] = hex.EncodeToString(value[:])
	}
	return json.Marshal(f)
}

// ParseQuote reads what JSON wrote.
func ParseQuote(data []byte) (*Quote, error) {
	var f quoteFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fault.Errorf(fault.Refused, "have the VM quote again", "the quote is malformed: %w", err)
	}
	q := &Quote{Message: f.Message, Signature: f.Signature, PCRs: PCRs{}}
	for index, value := range f.PCRs {
		if err := q.PCRs.Set(index, value); err != nil {
			return nil, fault.Errorf(fault.Refused, "have the VM quote again", "the quote is malformed: %w", err)
		}
	}
	return q, nil
}

// Set puts in a value given as text: a decimal index and 64 hex digits. An index
// has one value and one spelling.
func (p PCRs) Set(index, value string) error {
	i, err := strconv.ParseUint(index, 10, 8)
	raw, hexErr := hex.DecodeString(value)
	if err != nil || i > maxPCR || hexErr != nil || len(raw) != sha256.Size {
		return fault.Errorf(fault.Usage, fmt.Sprintf("give an index of 0 to %d and 64 hex digits", maxPCR), "PCR %.20q is not %.80q", index, value)
	}
	if _, twice := p[uint(i)]; twice || index != strconv.FormatUint(i, 10) {
		return fault.Errorf(fault.Usage, "give each PCR once, without leading zeros", "PCR %.20q is given twice, or not in decimal", index)
	}
	p[uint(i)] = [sha256.Size]byte(raw)
	return nil
}

// VMExpectations are what a confidential VM must be beyond its processor. All
// are required. There is no container policy in HOST_DATA on such a VM: what
// pins the system, and the runtime in it, are the PCRs that measured boot filled.
type VMExpectations struct {
	Measurements [][48]byte // of the paravisors that are good enough
	PCRs         PCRs       // at least those that measure what is relied on
}

// maxVMPolicy bounds a machine policy in bytes.
const maxVMPolicy = 64 << 10

// ParseVMPolicy reads a machine policy, JSON: {"measurements": [96 hex digits,
// …], "pcrs": {"11": 64 hex digits, …}}. Its digest stands in a contract where a
// container's has that of its container policy.
func ParseVMPolicy(text []byte) (*VMExpectations, error) {
	bad := func(format string, args ...any) error {
		return fault.Errorf(fault.Usage, "name measurements of paravisors and the PCRs of your system's build", "the machine policy: "+format, args...)
	}
	if len(text) > maxVMPolicy {
		return nil, bad("it has %d bytes, more than the %d allowed", len(text), maxVMPolicy)
	}
	var file struct {
		Measurements []string          `json:"measurements"`
		PCRs         map[string]string `json:"pcrs"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(&file)
	if err == nil {
		_, err = dec.Token()
	}
	if !errors.Is(err, io.EOF) {
		return nil, bad("it is not such JSON, and nothing else: %v", err)
	}
	want := &VMExpectations{PCRs: PCRs{}}
	for _, m := range file.Measurements {
		if err := want.AddMeasurement(m); err != nil {
			return nil, err
		}
	}
	for index, value := range file.PCRs {
		if err := want.PCRs.Set(index, value); err != nil {
			return nil, err
		}
	}
	if len(want.Measurements) == 0 || len(want.PCRs) == 0 {
		return nil, bad("it names %d measurements and %d PCRs", len(want.Measurements), len(want.PCRs))
	}
	return want, nil
}

// AddMeasurement adds a paravisor's, given as 96 hex digits.
func (v *VMExpectations) AddMeasurement(text string) error {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 48 {
		return fault.Errorf(fault.Usage, "give 96 hex digits", "%.100q is not a launch measurement", text)
	}
	v.Measurements = append(v.Measurements, [48]byte(raw))
	return nil
}

// checkVM: which paravisor and system, and that they speak now and of this.
func (res *Result) checkVM(r *Report, q *Quote, want Expectations) {
	c := &res.Checks
	c.AddIf("launch measurement", measurements(want.VM.Measurements), hex.EncodeToString(r.Measurement[:]),
		slices.Contains(want.VM.Measurements, r.Measurement))
	claims, err := parseVMClaims(q.Claims)
	if err != nil {
		c.AddIf("HCL claims", "an attestation key and the VM's configuration", err.Error(), false)
		claims = &VMClaims{}
	} else {
		c.AddIf("HCL claims", "an attestation key and the VM's configuration", "of VM "+claims.VMID, true)
	}
	c.Add("secure boot", "true", strconv.FormatBool(claims.SecureBoot))
	quoted, err := q.verify(claims.AK)
	actual := "valid"
	if err != nil {
		actual, quoted = err.Error(), &quoteInfo{}
	}
	c.AddIf("quote", "signed by the HCL's key, over these PCRs", actual, err == nil)
	c.Add("quoted data", orUnstated(hex.EncodeToString(want.ReportData)), orNone(hex.EncodeToString(quoted.extraData)))
	res.checkPCRs(quoted.pcrs, want.VM.PCRs)
}

func (res *Result) checkPCRs(got, want PCRs) {
	if len(want) == 0 {
		res.Checks.AddIf("PCRs", orUnstated(""), fmt.Sprintf("%d quoted", len(got)), false)
	}
	for _, i := range want.Indexes() {
		expected, actual := want[i], "(not quoted)"
		if value, ok := got[i]; ok {
			actual = hex.EncodeToString(value[:])
		}
		res.Checks.Add(fmt.Sprintf("PCR %d", i), hex.EncodeToString(expected[:]), actual)
	}
}

func measurements(list [][48]byte) string {
	var text string
	for _, m := range list {
		if text != "" {
			text += " or "
		}
		text += hex.EncodeToString(m[:])
	}
	return orUnstated(text)
}

// quoteInfo is what a verified quote says.
type quoteInfo struct {
	extraData []byte
	pcrs      PCRs
}

// verify checks the signature first, so that only bytes that a TPM signed are
// parsed. What then begins with the TPM's magic the TPM also made.
func (q *Quote) verify(ak *rsa.PublicKey) (*quoteInfo, error) {
	if ak == nil {
		return nil, errors.New("there is no key to verify it with")
	}
	sum := sha256.Sum256(q.Message)
	if err := rsa.VerifyPKCS1v15(ak, crypto.SHA256, sum[:], q.Signature); err != nil {
		return nil, errors.New("the signature is not by the key in the HCL report")
	}
	attest, err := parseAttest(q.Message)
	if err != nil {
		return nil, err
	}
	quoted, err := attest.Attested.Quote()
	if err != nil {
		return nil, errors.New("the key signed something that is not a quote")
	}
	if err := selects(quoted.PCRSelect, q.PCRs); err != nil {
		return nil, err
	}
	if !bytes.Equal(quoted.PCRDigest.Buffer, q.PCRs.Digest()) {
		return nil, errors.New("the PCR values are not those that were quoted")
	}
	return &quoteInfo{extraData: attest.ExtraData.Buffer, pcrs: q.PCRs}, nil
}

// parseAttest reads a TPMS_ATTEST that has nothing behind it. A restricted key
// signs what somebody hands it too, unless that begins with the TPM's magic (TPM
// 2.0 Library, part 1, "Restricted Attribute"); the library does not look at it.
func parseAttest(message []byte) (*tpm2.TPMSAttest, error) {
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](message)
	if err != nil || !bytes.Equal(tpm2.Marshal(attest), message) {
		return nil, errors.New("the quote is not a TPMS_ATTEST structure")
	}
	if err := attest.Magic.Check(); err != nil {
		return nil, errors.New("the quote was not made by the TPM, which only signed it")
	}
	return attest, nil
}

// selects holds the quote to one SHA-256 bank and exactly the given PCRs.
func selects(list tpm2.TPMLPCRSelection, pcrs PCRs) error {
	if len(list.PCRSelections) != 1 || list.PCRSelections[0].Hash != tpm2.TPMAlgSHA256 {
		return errors.New("the quote is not over the SHA-256 bank alone")
	}
	var quoted []uint
	for i, b := range list.PCRSelections[0].PCRSelect {
		for bit := range uint(8) {
			if b&(1<<bit) != 0 {
				quoted = append(quoted, uint(i)*8+bit)
			}
		}
	}
	if !slices.Equal(quoted, pcrs.Indexes()) {
		return fmt.Errorf("the quote is over the PCRs %v, values are given for %v", quoted, pcrs.Indexes())
	}
	return nil
}
