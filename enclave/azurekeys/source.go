// Package azurekeys is the gate's key source on Azure: the platform's evidence,
// the attestation service's token and the vaults' keys, joined.
//
// Life of a start: the gate calls Attest once, which makes the release key, has
// the processor vouch for it, judges that evidence itself before showing it to
// anyone, and obtains the token. Each WrappedDEK and Release is then one
// request to a vault.
package azurekeys

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"cloister/enclave"
	"cloister/enclave/attest"
	"cloister/enclave/envelope"
	"cloister/enclave/snp"
	"cloister/enclave/snp/vtpm"
	"cloister/enclave/vault"
	"cloister/internal/fault"
)

// Platform makes reports and says by which anchors they are judged.
type Platform = snp.Machine

// Requirements are what this machine demands of itself.
type Requirements = snp.Requirements

// Vaults returns the client that speaks for a volume: each may name an identity
// of its own.
type Vaults func(volume string) (*vault.Client, error)

// TPM makes release keys in a confidential VM's TPM.
type TPM interface {
	NewKey(ctx context.Context) (*vtpm.Key, error)
}

// Source is a key source for one start.
type Source struct {
	platform Platform
	require  Requirements
	attest   *attest.Client
	vaults   Vaults
	bits     int

	mu     sync.Mutex // guards the fields below
	closed bool
	token  *attest.Token
	key    *vault.ReleaseKey
	result *snp.Result
	held   *vtpm.Key // of a confidential VM: what key stands for
}

// New returns a source; nothing is asked yet.
func New(p Platform, r Requirements, a *attest.Client, v Vaults) *Source {
	return &Source{platform: p, require: r, attest: a, vaults: v, bits: vault.ReleaseKeyBits}
}

// Evidence is the judgement that Attest made of this machine, or nil.
func (s *Source) Evidence() *snp.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

// Attest proves this machine, to itself first.
func (s *Source) Attest(ctx context.Context) error {
	key, held, err := s.newKey(ctx)
	if err != nil {
		return err
	}
	token, result, err := s.prove(ctx, key, held)
	if err != nil {
		destroy(key, held)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		destroy(key, held)
		return fmt.Errorf("the key source is closed")
	}
	destroy(s.key, s.held)
	s.key, s.held, s.token, s.result = key, held, token, result
	return nil
}

// newKey makes the release key: in this process, or, as the attestation service
// demands of a confidential VM, in its TPM.
func (s *Source) newKey(ctx context.Context) (*vault.ReleaseKey, *vtpm.Key, error) {
	tpm, ok := s.platform.(TPM)
	if !ok {
		key, err := vault.NewReleaseKey(s.bits)
		return key, nil, err
	}
	held, err := tpm.NewKey(ctx)
	if err != nil {
		return nil, nil, err
	}
	key, err := vault.HeldReleaseKey(held, attest.GuestKeyID)
	return key, held, err
}

func destroy(key *vault.ReleaseKey, held *vtpm.Key) {
	key.Destroy()
	if held != nil {
		held.Close() //nolint:errcheck // the TPM forgets it with the connection
	}
}

func (s *Source) prove(ctx context.Context, key *vault.ReleaseKey, held *vtpm.Key) (*attest.Token, *snp.Result, error) {
	runtimeData, err := key.RuntimeData()
	if err != nil {
		return nil, nil, err
	}
	evidence, result, err := snp.Prove(ctx, s.platform, s.require, snp.KeyRelease{RuntimeData: runtimeData})
	if err != nil {
		return nil, nil, err
	}
	if held != nil {
		token, err := s.attest.AttestGuest(ctx, evidence, runtimeData, held)
		return token, result, err
	}
	token, err := s.attest.Attest(ctx, evidence, runtimeData)
	return token, result, err
}

// WrappedDEK fetches the secret that v.WrappedDEK addresses.
func (s *Source) WrappedDEK(ctx context.Context, v enclave.Volume) ([]byte, error) {
	client, err := s.vaults(v.Name)
	if err != nil {
		return nil, err
	}
	return client.WrappedDEK(ctx, v.WrappedDEK)
}

// Release has the key that v.KEK addresses released, in the version that the
// envelope names where the address names none: an owner may have made a newer
// one since the DEK was wrapped.
func (s *Source) Release(ctx context.Context, v enclave.Volume, wrapped []byte) (enclave.KEK, error) {
	id, err := kekOf(v, wrapped)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	token, key := s.token, s.key
	s.mu.Unlock()
	if token == nil {
		return nil, fault.Errorf(fault.Internal, "", "a KEK is to be released before this machine is attested")
	}
	client, err := s.vaults(v.Name)
	if err != nil {
		return nil, err
	}
	kek, err := client.Release(ctx, vault.Request{KEK: id, Policy: v.ReleasePolicy}, token, key)
	if err != nil {
		return nil, err
	}
	return kek, nil
}

// kekOf reads the envelope's word, which is nobody's promise, only for the
// version of the very key that the contract names.
func kekOf(v enclave.Volume, wrapped []byte) (vault.ID, error) {
	id, err := vault.ParseID("keys", v.KEK)
	if err != nil {
		return vault.ID{}, err
	}
	e, err := envelope.Parse(wrapped)
	if err != nil || e.Bare || id.Version != "" {
		return id, err
	}
	if named, err := vault.ParseID("keys", e.KEKID); err == nil && strings.EqualFold(named.Vault, id.Vault) && strings.EqualFold(named.Name, id.Name) {
		id.Version = named.Version
		return id, nil
	}
	return vault.ID{}, fault.Errorf(fault.Refused, "wrap the DEK with the key the contract names",
		"the wrapped DEK of %s is wrapped with %s, and the contract names %s", v.Name, e.KEKID, v.KEK)
}

// Close destroys the release key and forgets the token.
func (s *Source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	destroy(s.key, s.held)
	s.closed, s.token, s.key, s.held = true, nil, nil, nil
}
