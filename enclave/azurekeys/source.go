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
	key, err := vault.NewReleaseKey(s.bits)
	if err != nil {
		return err
	}
	token, result, err := s.prove(ctx, key)
	if err != nil {
		key.Destroy()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		key.Destroy()
		return fmt.Errorf("the key source is closed")
	}
	s.key.Destroy()
	s.key, s.token, s.result = key, token, result
	return nil
}

func (s *Source) prove(ctx context.Context, key *vault.ReleaseKey) (*attest.Token, *snp.Result, error) {
	runtimeData, err := key.RuntimeData()
	if err != nil {
		return nil, nil, err
	}
	evidence, result, err := snp.Prove(ctx, s.platform, s.require, snp.KeyRelease{RuntimeData: runtimeData})
	if err != nil {
		return nil, nil, err
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
	s.key.Destroy()
	s.closed, s.token, s.key = true, nil, nil
}
