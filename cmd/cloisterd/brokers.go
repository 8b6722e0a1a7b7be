package main

import (
	"context"

	"cloister/enclave"
	"cloister/enclave/azurekeys"
	"cloister/enclave/kbs"
	"cloister/enclave/snp"
	"cloister/internal/fault"
	"cloister/policy/spec"
)

// keySource is the gate's: each volume's keys come from where the specification
// says that they are.
type keySource struct {
	vaults  *azurekeys.Source
	brokers *kbs.Source
	at      map[string]enclave.KeySource // by volume
}

// keys makes the source; nothing is asked yet.
func (c *cloud) keys(p platform) (*keySource, error) {
	vaults, err := c.vaultKeys(p)
	if err != nil {
		return nil, err
	}
	s := &keySource{vaults: vaults, at: map[string]enclave.KeySource{}}
	clients, err := c.brokers(p)
	if err != nil {
		return nil, err
	}
	s.brokers = kbs.NewSource(clients)
	for _, v := range volumesOf(c.spec) {
		if v.Key.Broker != nil {
			s.at[v.Name] = s.brokers
		} else {
			s.at[v.Name] = vaults
		}
	}
	return s, nil
}

// brokers are the clients by volume; volumes at one broker share one.
func (c *cloud) brokers(p platform) (map[string]*kbs.Client, error) {
	byVolume, byBroker := map[string]*kbs.Client{}, map[spec.Broker]*kbs.Client{}
	for _, v := range volumesOf(c.spec) {
		if v.Key.Broker == nil {
			continue
		}
		which := spec.Broker{URL: v.Key.Broker.URL, CA: v.Key.Broker.CA}
		if byBroker[which] == nil {
			client, err := c.broker(p, which)
			if err != nil {
				return nil, err
			}
			byBroker[which] = client
		}
		byVolume[v.Name] = byBroker[which]
	}
	return byVolume, nil
}

func (c *cloud) broker(p platform, b spec.Broker) (*kbs.Client, error) {
	roots, err := b.Roots()
	if err != nil {
		return nil, err
	}
	want, err := demands(c.spec, p)
	if err != nil {
		return nil, err
	}
	return kbs.New(kbs.Options{URL: b.URL, Roots: roots, Prove: func(ctx context.Context, about snp.Statement) (*snp.Evidence, error) {
		e, _, err := snp.Prove(ctx, p.Platform, want, about)
		if err == nil && e.Quote != nil {
			return nil, fault.Errorf(fault.Refused, "keep its keys in a vault, or run it in a confidential container",
				"the key broker %s has no place for a TPM quote, so it could not judge this confidential VM", b.URL)
		}
		return e, err
	}})
}

// keyAddresses are where a volume's wrapped DEK and KEK are, as they are recorded.
func keyAddresses(k spec.Key) (wrapped, kek string) {
	if b := k.Broker; b != nil {
		return kbs.Address(b.URL, b.Resource), kbs.Address(b.URL, b.KEK)
	}
	return k.Secret, vaultKey(k)
}

func (s *keySource) WrappedDEK(ctx context.Context, v enclave.Volume) ([]byte, error) {
	return s.at[v.Name].WrappedDEK(ctx, v)
}

// Attest asks the attestation service only where a vault wants its token.
func (s *keySource) Attest(ctx context.Context) error {
	for _, source := range s.at {
		if source == enclave.KeySource(s.vaults) {
			return s.vaults.Attest(ctx)
		}
	}
	return s.brokers.Attest(ctx)
}

func (s *keySource) Release(ctx context.Context, v enclave.Volume, wrapped []byte) (enclave.KEK, error) {
	return s.at[v.Name].Release(ctx, v, wrapped)
}

// Close forgets what was shown and obtained.
func (s *keySource) Close() {
	s.vaults.Close()
	s.brokers.Close()
}
