package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"cloister/internal/fault"
)

// role is a built-in role by its published id. Each has what its name says and no
// more: a clean room gets nothing that lets it list, change or hand on.
type role struct{ id, name string }

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
// https://learn.microsoft.com/azure/key-vault/managed-hsm/built-in-roles
var (
	hsmRelease    = role{"21dbd100-6940-42c2-9190-5d6cb909625c", "Managed HSM Crypto Service Release User"}
	vaultRelease  = role{"08bbd89e-9f13-488c-ac41-acfcb10c90ab", "Key Vault Crypto Service Release User"}
	secretsUser   = role{"4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User"}
	blobsReader   = role{"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", "Storage Blob Data Reader"}
	blobsWriter   = role{"ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor"}
	assignerHSM   = "Managed HSM Policy Administrator on the key"
	assignerAzure = "Role Based Access Control Administrator, or User Access Administrator, on that resource"
)

// grant is a role of one principal on one resource.
type grant struct {
	role      role
	principal string
	hsm       string // the HSM's address, where the role is one of its own
	scope     string // an ARM id, or in an HSM /keys/NAME
}

type assignment struct {
	ID         string `json:"id,omitempty"`
	Name       string `json:"name,omitempty"`
	Properties struct {
		Scope            string `json:"scope,omitempty"`
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		PrincipalType    string `json:"principalType,omitempty"`
	} `json:"properties"`
}

// name is the same for the same grant, so that making it again is no second one.
// It has the form of a UUID of version 8 (RFC 9562).
func (g grant) name() string {
	sum := sha256.Sum256([]byte("cloister role assignment v1\x00" + strings.ToLower(g.hsm) + "\x00" + strings.ToLower(g.scope) + "\x00" + g.role.id + "\x00" + strings.ToLower(g.principal)))
	sum[6], sum[8] = 0x80|sum[6]&0xf, 0x80|sum[8]&0x3f
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

const assignmentsPath = "/providers/Microsoft.Authorization/roleAssignments"

func (c *Client) ask(ctx context.Context, g grant, method, rest string, in, out any) error {
	where, version, scope := strings.TrimSuffix(c.opts.Manager.Endpoint, "/"), assignmentVersion, c.opts.Manager.Scope
	if g.hsm != "" {
		where, version, scope = strings.TrimSuffix(g.hsm, "/"), hsmRolesVersion, c.opts.HSMScope
	}
	separator := "?"
	if strings.Contains(rest, "?") {
		separator = "&"
	}
	return newREST(c.opts.Credential, scope, c.opts.Client).do(ctx, method, where+g.scope+assignmentsPath+rest+separator+"api-version="+version, in, out)
}

// findGrant returns the name of the assignment that is the grant, "" where there
// is none at exactly that scope.
func (c *Client) findGrant(ctx context.Context, g grant) (string, error) {
	var list struct{ Value []assignment }
	err := c.ask(ctx, g, http.MethodGet, "?$filter="+url.QueryEscape("principalId eq '"+g.principal+"'"), nil, &list)
	if isNotFound(err) {
		return "", nil // what it is on is not there yet
	}
	if err != nil {
		return "", explain(err, "looking for the role "+g.role.name+" on "+g.hsm+g.scope, g.assigner())
	}
	for _, a := range list.Value {
		if strings.EqualFold(a.Properties.Scope, g.scope) && strings.EqualFold(a.Properties.PrincipalID, g.principal) &&
			strings.HasSuffix(strings.ToLower(a.Properties.RoleDefinitionID), "/"+g.role.id) {
			return a.Name, nil
		}
	}
	return "", nil
}

func (g grant) assigner() string {
	if g.hsm != "" {
		return assignerHSM
	}
	return assignerAzure
}

// giveGrant makes the assignment. One that somebody else made meanwhile will do.
func (c *Client) giveGrant(ctx context.Context, g grant) error {
	var a assignment
	a.Properties.PrincipalID = g.principal
	a.Properties.RoleDefinitionID = "/subscriptions/" + c.opts.Manager.Subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + g.role.id
	if g.hsm != "" {
		a.Properties.RoleDefinitionID = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + g.role.id
	} else {
		// Without it Azure looks the principal up, where a new one may not show yet.
		a.Properties.PrincipalType = "ServicePrincipal"
	}
	err := c.ask(ctx, g, http.MethodPut, "/"+g.name(), a, nil)
	var answer *azcore.ResponseError
	if errors.As(err, &answer) && answer.ErrorCode == "RoleAssignmentExists" {
		return nil
	}
	if err != nil {
		return explain(err, "giving "+g.principal+" the role "+g.role.name+" on "+g.hsm+g.scope, g.assigner())
	}
	return nil
}

func (c *Client) takeGrant(ctx context.Context, g grant, name string) error {
	if err := c.ask(ctx, g, http.MethodDelete, "/"+name, nil, nil); err != nil && !isNotFound(err) {
		return explain(err, "taking the role "+g.role.name+" on "+g.hsm+g.scope, g.assigner())
	}
	return nil
}

// CheckPrincipal admits a UUID: an object id goes into a filter and a name.
func CheckPrincipal(id string) error {
	if len(id) != 36 || strings.Trim(strings.ToLower(id), "0123456789abcdef-") != "" {
		return fault.Errorf(fault.Usage, "give the object id of the identity's service principal in this tenant, not its client id", "%.80q is not an object id", id)
	}
	return nil
}
