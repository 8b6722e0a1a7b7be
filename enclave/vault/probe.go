package vault

import (
	"context"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

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
		return "", fault.Errorf(fault.Unavailable, "correct the address in the specification, or let this machine reach it", "%w", err)
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
