package vault

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"cloister/enclave/azure"
	"cloister/internal/fault"
)

// Probe asks a vault without a token: one that is there answers 401 with its
// challenge, and nothing is accessed. It returns what came back.
func Probe(ctx context.Context, t policy.Transporter, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/keys?api-version=7.4", nil)
	if err != nil {
		return "", fault.Errorf(fault.Usage, "correct the address in the specification", "%w", err)
	}
	resp, err := t.Do(req)
	if err != nil {
		return "", fault.Errorf(fault.Unavailable, azure.ReachHint(err), "%w", err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
		return "", fault.Errorf(fault.Unavailable, "try again later", "it answers HTTP %d", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		return "", fault.Errorf(fault.Refused, "correct the address in the specification", "it answers HTTP %d, and no vault's challenge", resp.StatusCode)
	}
	return "it answers with its challenge", nil
}

// Find says whether the secret that holds a wrapped DEK is there, in words. It
// reads the list of its versions, which no run is recorded for, and not what it
// holds.
func (c *Client) Find(ctx context.Context, address string) (string, error) {
	id, err := ParseID("secrets", address)
	if err != nil {
		return "", err
	}
	client, err := c.secretClient(id.Vault)
	if err != nil {
		return "", err
	}
	ctx, cancel := azure.Bound(ctx, c.opts.Deadline)
	defer cancel()
	page, err := client.NewListSecretPropertiesVersionsPager(id.Name, nil).NextPage(ctx)
	if err != nil {
		return "", answerError(err, "looking for the wrapped DEK "+address, "give the identity the role Key Vault Secrets User")
	}
	if len(page.Value) == 0 {
		return "", fault.Errorf(fault.NotFound, "provision the volume's key with the owner's tools", "there is no secret %s", address)
	}
	return fmt.Sprintf("there, in %d version(s)", len(page.Value)), nil
}
