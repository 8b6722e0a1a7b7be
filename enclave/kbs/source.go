package kbs

import (
	"context"

	"cloister/enclave"
	"cloister/enclave/envelope"
	"cloister/enclave/vault"
	"cloister/internal/fault"
)

// Source is the gate's key source for volumes whose keys are at brokers. Of a
// volume, WrappedDEK and KEK are resources' addresses (see Address).
type Source struct{ brokers map[string]*Client }

// NewSource returns a source of the volumes' brokers, by volume; several may
// share one. They are the source's to close.
func NewSource(brokers map[string]*Client) *Source { return &Source{brokers: brokers} }

func (s *Source) broker(v enclave.Volume) (*Client, error) {
	c := s.brokers[v.Name]
	if c == nil {
		return nil, fault.Errorf(fault.Internal, "", "no key broker is known for %s", v.Name)
	}
	return c, nil
}

// Attest has nothing to do: a broker has been shown this machine's evidence when
// the gate comes to it, or is one of a later stage, and is asked nothing before
// the first access there is recorded.
func (s *Source) Attest(context.Context) error { return nil }

// WrappedDEK fetches the envelope: ciphertext, whatever the broker held there.
func (s *Source) WrappedDEK(ctx context.Context, v enclave.Volume) ([]byte, error) {
	c, err := s.broker(v)
	if err != nil {
		return nil, err
	}
	wrapped, err := c.Resource(ctx, v.WrappedDEK)
	if err != nil {
		return nil, err
	}
	if len(wrapped) > envelope.MaxSize {
		clear(wrapped)
		return nil, fault.Errorf(fault.Refused, "provision the volume's key again", "the resource %s does not hold a wrapped DEK", v.WrappedDEK)
	}
	return wrapped, nil
}

// Release gets the KEK, an RSA key in PKCS #8. An envelope that names the key it
// is wrapped with must name this one.
func (s *Source) Release(ctx context.Context, v enclave.Volume, wrapped []byte) (enclave.KEK, error) {
	c, err := s.broker(v)
	if err != nil {
		return nil, err
	}
	e, err := envelope.Parse(wrapped)
	if err != nil {
		return nil, err
	}
	if !e.Bare && e.KEKID != v.KEK {
		return nil, fault.Errorf(fault.Refused, "wrap the DEK with the key that the specification names",
			"the wrapped DEK of %s is wrapped with %s, and the specification names %s", v.Name, e.KEKID, v.KEK)
	}
	material, err := c.Resource(ctx, v.KEK)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	kek, err := vault.ParseKEK(v.KEK, material)
	if err != nil {
		return nil, fault.Errorf(fault.Refused, "provision the volume's keys again", "the resource %s: %w", v.KEK, err)
	}
	return kek, nil
}

// Close destroys the sessions with all brokers.
func (s *Source) Close() {
	for _, c := range s.brokers {
		c.Close()
	}
}
