//go:build cgo

package main

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"cloister/internal/fault"
	"cloister/internal/hsm"

	"github.com/miekg/pkcs11"
)

// session is a token that let us in.
type session struct {
	module *pkcs11.Ctx
	handle pkcs11.SessionHandle
}

func login(q hsm.Request) (*session, error) {
	module := pkcs11.New(q.Module)
	if module == nil {
		return nil, fault.Errorf(fault.NotFound, "give the path of the token maker's PKCS #11 library", "module %s cannot be loaded", q.Module)
	}
	s := &session{module: module}
	if err := module.Initialize(); err != nil {
		module.Destroy()
		return nil, fmt.Errorf("initializing %s: %w", q.Module, err)
	}
	if err := s.open(q); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) open(q hsm.Request) error {
	slot, err := s.slot(q.Token)
	if err != nil {
		return err
	}
	if s.handle, err = s.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return fmt.Errorf("opening token %q: %w", q.Token, err)
	}
	if err := s.module.Login(s.handle, pkcs11.CKU_USER, string(q.PIN)); err != nil {
		return refused(q.Token, err)
	}
	return nil
}

func refused(token string, err error) error {
	var code pkcs11.Error
	if errors.As(err, &code) {
		switch uint(code) {
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
			return fault.Errorf(fault.Denied, "give the right PIN; after some wrong ones a token locks itself", "token %q refuses the PIN", token)
		case pkcs11.CKR_PIN_LOCKED:
			return fault.Errorf(fault.Denied, "unlock it with the token maker's tool", "token %q is locked after too many wrong PINs", token)
		}
	}
	return fmt.Errorf("logging in to token %q: %w", token, err)
}

func (s *session) slot(label string) (uint, error) {
	slots, err := s.module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing tokens: %w", err)
	}
	var found []uint
	for _, slot := range slots {
		if info, err := s.module.GetTokenInfo(slot); err == nil && strings.TrimRight(info.Label, " \x00") == label {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 0:
		return 0, fault.Errorf(fault.NotFound, "plug it in, and compare its label", "there is no token %q", label)
	case 1:
		return found[0], nil
	default:
		return 0, fault.Errorf(fault.Conflict, "unplug the others, or relabel them", "%d tokens are called %q", len(found), label)
	}
}

// close also ends the login: other programs' sessions are other processes'.
func (s *session) close() {
	_ = s.module.Finalize()
	s.module.Destroy()
}

// oidP256 is prime256v1 as CKA_EC_PARAMS wants it: an OBJECT IDENTIFIER in DER.
var oidP256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// generate makes a key pair whose private half never leaves the token.
func (s *session) generate(label string) (point []byte, err error) {
	if there, err := s.find(pkcs11.CKO_PRIVATE_KEY, label); err != nil || len(there) > 0 {
		return nil, errors.Join(err, fault.Errorf(fault.Conflict, "give another --token-key", "the token has a key %q", label))
	}
	public := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	private := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	handle, _, err := s.module.GenerateKeyPair(s.handle, mechanism, public, private)
	if err != nil {
		return nil, fmt.Errorf("making key %q: %w", label, err)
	}
	values, err := s.module.GetAttributeValue(s.handle, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil || len(values) != 1 {
		return nil, fmt.Errorf("reading the public half of key %q: %w", label, err)
	}
	// CKA_EC_POINT is the point in an OCTET STRING (PKCS #11 v2.40, 2.3.3).
	if rest, err := asn1.Unmarshal(values[0].Value, &point); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the token gives no point for key %q", label)
	}
	return point, nil
}

func (s *session) sign(label string, digest []byte) ([]byte, error) {
	keys, err := s.find(pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fault.Errorf(fault.NotFound, "use the token that the party's keys were made in", "the token has %d keys %q, want 1", len(keys), label)
	}
	if err := s.module.SignInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, keys[0]); err != nil {
		return nil, fmt.Errorf("signing with key %q: %w", label, err)
	}
	signature, err := s.module.Sign(s.handle, digest)
	if err != nil {
		return nil, fmt.Errorf("signing with key %q: %w", label, err)
	}
	return signature, nil
}

func (s *session) find(class uint, label string) ([]pkcs11.ObjectHandle, error) {
	err := s.module.FindObjectsInit(s.handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)})
	if err != nil {
		return nil, fmt.Errorf("looking for key %q: %w", label, err)
	}
	found, _, err := s.module.FindObjects(s.handle, 2)
	return found, errors.Join(err, s.module.FindObjectsFinal(s.handle))
}
