package provision

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"cloister/enclave/envelope"
	"cloister/internal/fault"
)

// contentType tells people who look at the vault what the secret is.
const contentType = "application/vnd.cloister.wrapped-dek+json"

// WrappedDEK says which volume's DEK shall be stored where.
type WrappedDEK struct {
	Vault      string // https://HOST of a Key Vault
	Name       string // of the secret
	VolumeID   [16]byte
	KeyVersion uint32        // from 1
	DEK        *envelope.DEK // the caller's, who destroys it
}

// AppliedDEK is a wrapped DEK that is stored as wanted.
type AppliedDEK struct {
	ID      string // the secret's address, with the version
	Changed bool   // false when the same was stored already
}

// dekRole is what an owner needs for a wrapped DEK.
const dekRole = "Key Vault Secrets Officer"

func (c *Client) vault(address string) (*azsecrets.Client, error) {
	return azsecrets.NewClient(address, c.opts.Credential, &azsecrets.ClientOptions{
		ClientOptions: c.opts.Client, DisableChallengeResourceVerification: c.opts.PrivateCloud,
	})
}

// ApplyDEK sees to it that the vault holds the DEK wrapped with the KEK. A
// secret that holds something else than a wrapped DEK of this volume is of kind
// fault.Conflict; an older key version, or one wrapped with another KEK, is
// replaced by a new version of the secret.
func (c *Client) ApplyDEK(ctx context.Context, w WrappedDEK, kek *AppliedKEK) (*AppliedDEK, error) {
	there, err := c.FindDEK(ctx, w, kek)
	if there != nil || err != nil {
		return there, err
	}
	client, err := c.vault(w.Vault)
	if err != nil {
		return nil, err
	}
	return w.store(ctx, client, kek, w.doing(), dekRole)
}

func (w *WrappedDEK) doing() string {
	return fmt.Sprintf("provisioning the wrapped DEK %s in %s", w.Name, w.Vault)
}

// FindDEK is ApplyDEK that stores nothing: nil where there is nothing, or what
// ApplyDEK would replace. Without a KEK the secret's is taken for the wanted one;
// without the DEK itself only its volume and key version are compared.
func (c *Client) FindDEK(ctx context.Context, w WrappedDEK, kek *AppliedKEK) (*AppliedDEK, error) {
	if err := checkVault(w.Vault); err != nil {
		return nil, fmt.Errorf("%s: %w", w.doing(), err)
	}
	client, err := c.vault(w.Vault)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.doing(), err)
	}
	found, err := client.GetSecret(ctx, w.Name, "", nil)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err, w.doing(), dekRole)
	}
	same, err := w.compare(found.Secret, kek)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.doing(), err)
	}
	if !same {
		return nil, nil
	}
	return &AppliedDEK{ID: string(*found.ID)}, nil
}

// deleteDEK soft-deletes the secret; one that is not there is not an error.
func (c *Client) deleteDEK(ctx context.Context, w WrappedDEK) error {
	client, err := c.vault(w.Vault)
	if err != nil {
		return err
	}
	if _, err := client.DeleteSecret(ctx, w.Name, nil); err != nil && !isNotFound(err) {
		return explain(err, fmt.Sprintf("deleting the wrapped DEK %s in %s", w.Name, w.Vault), dekRole)
	}
	return nil
}

func (w *WrappedDEK) store(ctx context.Context, client *azsecrets.Client, kek *AppliedKEK, doing, role string) (*AppliedDEK, error) {
	wrapped, err := envelope.Wrap(kek.Public, kek.ID, w.DEK, w.VolumeID, w.KeyVersion)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	text, err := wrapped.Marshal()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	resp, err := client.SetSecret(once(ctx), w.Name, azsecrets.SetSecretParameters{
		Value: to.Ptr(string(text)), ContentType: to.Ptr(contentType),
	}, nil)
	if err != nil {
		return nil, explain(err, doing, role)
	}
	if resp.ID == nil {
		return nil, fault.Errorf(fault.Refused, "", "%s: the vault's answer names no secret", doing)
	}
	return &AppliedDEK{ID: string(*resp.ID), Changed: true}, nil
}

// compare reports whether the secret is the wanted one, and refuses to replace
// what belongs to something else or is newer.
func (w *WrappedDEK) compare(s azsecrets.Secret, kek *AppliedKEK) (same bool, err error) {
	const hint = "choose another name for the secret"
	if s.Value == nil || s.ID == nil {
		return false, fault.Errorf(fault.Refused, "", "the vault's answer holds no secret")
	}
	there, err := envelope.Parse([]byte(*s.Value))
	if err != nil || there.Bare {
		return false, fault.Errorf(fault.Conflict, hint, "the secret of that name holds something else")
	}
	if there.VolumeID != w.VolumeID {
		return false, fault.Errorf(fault.Conflict, hint, "the secret of that name holds the DEK of volume %x, not of %x", there.VolumeID, w.VolumeID)
	}
	if there.KeyVersion > w.KeyVersion {
		return false, fault.Errorf(fault.Conflict, "provision the newest key version", "the secret holds key version %d, newer than %d", there.KeyVersion, w.KeyVersion)
	}
	if w.DEK != nil && there.KeyVersion == w.KeyVersion && there.CheckValue != envelope.CheckValue(w.DEK.Bytes(), w.VolumeID) {
		return false, fault.Errorf(fault.Conflict, "a new DEK needs a new key version",
			"the secret holds another DEK of volume %x for key version %d", w.VolumeID, w.KeyVersion)
	}
	return there.KeyVersion == w.KeyVersion && (kek == nil || there.KEKID == kek.ID), nil
}
