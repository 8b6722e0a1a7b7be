package provision

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"cloister/internal/fault"
)

// permission is where the services' refusals name what is missing:
// perform action 'X' over scope (management plane), Action: 'X' (vaults).
var permission = regexp.MustCompile(`(?:[Aa]ction:? )'?([A-Za-z.]+/[A-Za-z/]+)'?`)

// linked is where the management plane's refusal names what is missing on another
// resource than the one that was asked for.
var linked = regexp.MustCompile(`action\(s\) '([^']+)' on the linked scope\(s\) '([^']+)'`)

// waitOf is how long a service asks for.
func waitOf(resp *azcore.ResponseError) string {
	if resp.RawResponse == nil {
		return "a minute"
	}
	if n, err := strconv.ParseUint(resp.RawResponse.Header.Get("Retry-After"), 10, 31); err == nil {
		return strconv.FormatUint(n, 10) + " seconds"
	}
	return "a minute"
}

// explain classifies what a service, or the way to it, answered, while doing
// something to a named resource; role is the one that allows it.
func explain(err error, doing, role string) error {
	var resp *azcore.ResponseError
	if !errors.As(err, &resp) {
		if fault.KindOf(err) != fault.Internal {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return fault.Errorf(fault.Unavailable, "check the address, and sign in; then give the command again, which goes on where this one stopped", "%s: %w", doing, err)
	}
	kind, hint := remedy(resp, role)
	if kind == fault.Internal {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fault.Errorf(kind, hint, "%s: %w", doing, err)
}

func remedy(resp *azcore.ResponseError, role string) (fault.Kind, string) {
	text := bodyOf(resp)
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return fault.Denied, "sign in to the tenant that the resource is in; the role needed is " + role
	case resp.StatusCode == http.StatusForbidden:
		missing := ""
		if m := linked.FindStringSubmatch(text); m != nil {
			missing = "the permission " + m[1] + " is missing on " + m[2] + ": "
		} else if m := permission.FindStringSubmatch(text); m != nil {
			missing = "the permission " + m[1] + " is missing: "
		}
		return fault.Denied, missing + "ask for the role " + role + "; a new role takes up to ten minutes to work"
	case resp.StatusCode == http.StatusBadRequest && standardForm.MatchString(text):
		return fault.Conflict, "keep the KEK in a Managed HSM, or in a Key Vault of SKU premium"
	case resp.StatusCode == http.StatusNotFound:
		return fault.NotFound, "create it, or correct its name; what one may not see is not found either: that takes the role " + role
	case resp.ErrorCode == "QuotaExceeded" || resp.ErrorCode == "RoleAssignmentLimitExceeded":
		return fault.Unavailable, "remove what is not used, or ask for a larger quota"
	case resp.StatusCode == http.StatusConflict && deletedForm.MatchString(text):
		return fault.Conflict, "recover or purge the deleted one, or choose another name"
	case resp.StatusCode == http.StatusConflict:
		return fault.Conflict, "see what is there, or choose another name"
	case resp.StatusCode == http.StatusTooManyRequests:
		return fault.Unavailable, "the service is asked too often: wait " + waitOf(resp) + " and give the command again, which goes on where this one stopped"
	case resp.StatusCode >= 500:
		return fault.Unavailable, "give the command again later; it goes on where this one stopped"
	}
	return fault.Internal, ""
}

// standardForm is how a vault without an HSM refuses a key for one.
var standardForm = regexp.MustCompile(`(?i)hsm key types? .*not supported`)

var deletedForm = regexp.MustCompile(`(?i)deleted (but recoverable )?state|ObjectIsDeletedButRecoverable`)

func bodyOf(resp *azcore.ResponseError) string {
	if resp.RawResponse == nil {
		return ""
	}
	body, err := runtime.Payload(resp.RawResponse)
	if err != nil {
		return ""
	}
	return string(body)
}

func isNotFound(err error) bool {
	var resp *azcore.ResponseError
	return errors.As(err, &resp) && resp.StatusCode == http.StatusNotFound
}
