package vtpm

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"cloister/enclave/snp"
)

// keyPCRs are the PCRs that a key is bound to and that the attestation service
// is shown: those that Microsoft's clients use under Linux.
var keyPCRs = [...]uint{0, 1, 2, 3, 4, 5, 6, 7}

// keyBits is what Microsoft's clients use, and what every vTPM can.
const keyBits = 2048

// Key is an RSA key of 2048 bits that lives in the TPM until Close, for one
// start: its private half is never in this process's memory. It decrypts while
// the PCRs 0 to 7 are what they were when it was made. It is safe for concurrent
// use.
type Key struct {
	public *rsa.PublicKey
	guest  Guest

	mu     sync.Mutex // guards the fields below: the TPM does one thing at a time
	tpm    transport.TPMCloser
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
}

// Guest is what the attestation service is told of a key, in the TPM's own
// structures; package attest sends it.
type Guest struct {
	AKCert    []byte // DER, of the attestation key; empty where Azure left none
	AKPublic  []byte // TPM2B_PUBLIC
	Public    []byte // TPM2B_PUBLIC of the key
	Certify   []byte // TPMS_ATTEST: the attestation key certifies the key
	Signature []byte // of Certify, RSASSA with SHA-256
	EventLog  []byte // of the measured boot, as the kernel has it; may be empty
}

// NewKey has the TPM make a key and certify it. The caller closes it.
func (p Platform) NewKey(ctx context.Context) (*Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tpm, err := p.open()
	if err != nil {
		return nil, err
	}
	k := &Key{tpm: tpm}
	if err := k.make(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a key in the TPM: %w", err), k.Close())
	}
	return k, nil
}

func (k *Key) make() error {
	pcrs, err := readPCRs(k.tpm, keyPCRs[:])
	if err != nil {
		return err
	}
	template, err := keyTemplate(pcrs)
	if err != nil {
		return err
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	}.Execute(k.tpm)
	if err != nil {
		return err
	}
	k.handle, k.name = made.ObjectHandle, made.Name
	public, err := made.OutPublic.Contents()
	if err != nil {
		return err
	}
	if k.public, err = rsaPublic(public); err != nil {
		return err
	}
	k.guest.Public = tpm2.Marshal(made.OutPublic)
	return k.certify()
}

// keyTemplate is Microsoft's clients', with fresh bytes in unique: a primary key
// is derived from the TPM's seed and its template, so the same template would be
// the same key at every start.
func keyTemplate(pcrs snp.PCRs) (tpm2.TPMTPublic, error) {
	policy, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return tpm2.TPMTPublic{}, err
	}
	bound := tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: pcrs.Digest()}, Pcrs: selection(keyPCRs[:]...)}
	if err := bound.Update(policy); err != nil {
		return tpm2.TPMTPublic{}, err
	}
	fresh := make([]byte, keyBits/8)
	if _, err := rand.Read(fresh); err != nil {
		return tpm2.TPMTPublic{}, err
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, NoDA: true, Decrypt: true},
		AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy.Hash().Digest},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgNull}, KeyBits: keyBits,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: fresh}),
	}, nil
}

func rsaPublic(public *tpm2.TPMTPublic) (*rsa.PublicKey, error) {
	parms, err := public.Parameters.RSADetail()
	if err != nil {
		return nil, err
	}
	unique, err := public.Unique.RSA()
	if err != nil {
		return nil, err
	}
	return tpm2.RSAPub(parms, unique)
}

// certify has the attestation key say that the key is one of this TPM.
func (k *Key) certify() error {
	signer, public, err := ak(k.tpm)
	if err != nil {
		return err
	}
	made, err := tpm2.Certify{
		ObjectHandle: tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:   signer, InScheme: keysScheme,
	}.Execute(k.tpm)
	if err != nil {
		return fmt.Errorf("certifying it with the attestation key: %w", err)
	}
	if k.guest.Signature, err = rsassa(made.Signature); err != nil {
		return err
	}
	k.guest.Certify, k.guest.AKPublic = made.CertifyInfo.Bytes(), tpm2.Marshal(public.OutPublic)
	// A VM without the certificate is for the service to judge.
	if cert, err := readNV(k.tpm, akCert); err == nil {
		k.guest.AKCert = trimDER(cert)
	}
	// Likewise without the log: the PCRs are quoted, the log only explains them.
	k.guest.EventLog, _ = os.ReadFile(eventLog)
	return nil
}

// eventLog is where Linux has the firmware's log of what it measured.
const eventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"

// trimDER cuts off what pads a certificate's index.
func trimDER(padded []byte) []byte {
	var cert asn1.RawValue
	if _, err := asn1.Unmarshal(padded, &cert); err != nil {
		return nil
	}
	return cert.FullBytes
}

// Public returns the *rsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Guest returns what the attestation service is told.
func (k *Key) Guest() Guest { return k.guest }

// Decrypt implements crypto.Decrypter. opts is an *rsa.OAEPOptions without label
// or an *rsa.PKCS1v15DecryptOptions; the TPM's own randomness blinds.
func (k *Key) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	scheme, err := decryptScheme(opts)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tpm == nil {
		return nil, errors.New("the key is closed")
	}
	opened, err := tpm2.RSADecrypt{
		KeyHandle:  tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, unchangedPCRs)},
		CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext}, InScheme: scheme,
	}.Execute(k.tpm)
	if err != nil {
		return nil, fmt.Errorf("decrypting in the TPM: %w", err)
	}
	return opened.Message.Buffer, nil
}

// unchangedPCRs holds the session to the PCRs as they are now; the key's policy
// demands what they were.
func unchangedPCRs(tpm transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(keyPCRs[:]...)}.Execute(tpm)
	return err
}

func decryptScheme(opts crypto.DecrypterOpts) (tpm2.TPMTRSADecrypt, error) {
	switch o := opts.(type) {
	case *rsa.PKCS1v15DecryptOptions:
		return tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgRSAES, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})}, nil
	case *rsa.OAEPOptions:
		hash, ok := map[crypto.Hash]tpm2.TPMIAlgHash{crypto.SHA1: tpm2.TPMAlgSHA1, crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384}[o.Hash]
		if ok && len(o.Label) == 0 && (o.MGFHash == 0 || o.MGFHash == o.Hash) {
			return tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgOAEP, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: hash})}, nil
		}
	}
	return tpm2.TPMTRSADecrypt{}, fmt.Errorf("the TPM does not decrypt by %T of these values", opts)
}

// Close takes the key out of the TPM. It may be called more than once.
func (k *Key) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tpm == nil {
		return nil
	}
	var err error
	if k.handle != 0 {
		_, err = tpm2.FlushContext{FlushHandle: k.handle}.Execute(k.tpm)
	}
	err = errors.Join(err, k.tpm.Close())
	k.tpm = nil
	return err
}
