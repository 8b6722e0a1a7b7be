package cce

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"cloister/internal/fault"
	"cloister/policy/spec"
)

// SpecificationVariable is the variable in which the host hands the runtime the
// canonical specification, in base64. Nothing in it is believed before its
// digest equals the one on the command line.
const SpecificationVariable = "CLOISTER_SPECIFICATION"

// injected are the variables that the platform, and for their identities ACI,
// put into every container, as the platform's own tool admits them; anchored,
// since not every framework in the field does that.
var injected = [...]string{
	`^(?i)(FABRIC)_.+=.+$`, `^HOSTNAME=.+$`, `^T(E)?MP=.+$`, `^FabricPackageFileName=.+$`, `^HostedServiceName=.+$`,
	`^IDENTITY_API_VERSION=.+$`, `^IDENTITY_HEADER=.+$`, `^IDENTITY_SERVER_THUMBPRINT=.+$`,
	`^azurecontainerinstance_restarted_by=.+$`,
}

// injectedAKS are what Kubernetes sets for each service of the namespace.
var injectedAKS = [...]string{
	`^[A-Z0-9_]+_SERVICE_HOST=.+$`, `^[A-Z0-9_]+_SERVICE_PORT=.+$`, `^[A-Z0-9_]+_SERVICE_PORT_[A-Z0-9_]+=.+$`,
	`^[A-Z0-9_]+_PORT=.+$`, `^[A-Z0-9_]+_PORT_[0-9]+_TCP=.+$`, `^[A-Z0-9_]+_PORT_[0-9]+_TCP_PROTO=.+$`,
	`^[A-Z0-9_]+_PORT_[0-9]+_TCP_PORT=.+$`, `^[A-Z0-9_]+_PORT_[0-9]+_TCP_ADDR=.+$`,
}

// ReplicaVariable is the variable in which the host tells a replica which it is:
// the one that Kubernetes gives each pod of an Indexed Job. It is the host's word:
// which of the agreed outputs a run writes is all that hangs on it, and the record
// says it.
const ReplicaVariable = "JOB_COMPLETION_INDEX"

const replicaIndex = "^" + ReplicaVariable + "=[0-9]{1,4}$"

// Where the webhook of workload identity puts a pod's token. The directory's
// authority is anybody's: the token is worth nothing to another one.
const (
	tokenDir  = "/var/run/secrets/azure/tokens"
	tokenFile = tokenDir + "/azure-identity-token"
)

// environmentRules let in what the image sets, which must be there, and what the
// platform does. The application's own variables are not here: runtime or shim
// sets them, out of what is measured.
func environmentRules(s spec.Specification, image Image) ([]EnvRule, error) {
	rules := []EnvRule{}
	for _, v := range image.Environment {
		if err := expressible(v); err != nil {
			return nil, err
		}
		rules = append(rules, EnvRule{v, true, MatchText})
	}
	if !slices.Contains(image.Environment, "TERM=xterm") {
		rules = append(rules, EnvRule{"TERM=xterm", false, MatchText})
	}
	for _, pattern := range injected {
		rules = append(rules, EnvRule{pattern, false, MatchRE2})
	}
	if s.Kind == spec.AKS {
		for _, pattern := range injectedAKS {
			rules = append(rules, EnvRule{pattern, false, MatchRE2})
		}
	}
	if s.Replicas() > 1 {
		rules = append(rules, EnvRule{replicaIndex, false, MatchRE2})
	}
	return rules, nil
}

// expressible refuses a variable that the policy's text cannot hold the platform
// to: Rego's strings are Unicode, a process's environment is bytes without NUL.
func expressible(variable string) error {
	name, _, ok := strings.Cut(variable, "=")
	const hint = "build the image with a variable of the form NAME=VALUE, in UTF-8"
	switch {
	case !ok || name == "":
		return fault.Errorf(fault.Refused, hint, "its environment has %.200q, which names no variable", variable)
	case !utf8.ValidString(variable) || strings.ContainsRune(variable, utf8.RuneError) || strings.ContainsRune(variable, 0):
		return fault.Errorf(fault.Refused, hint, "the variable %.200q of its environment has a value that no policy can express: %.200q", name, variable)
	}
	return nil
}

// base64Text is what a variable may hold that the runtime holds against a digest.
const base64Text = "=[A-Za-z0-9+/]+=*$"

// runtimeRules let in the specification, the policies that it pins, and the
// identities it names.
func runtimeRules(s spec.Specification) []EnvRule {
	rules := []EnvRule{{"^" + SpecificationVariable + base64Text, false, MatchRE2}}
	for range s.Policies() {
		rules = append(rules, EnvRule{"^" + PoliciesVariable + base64Text, false, MatchRE2})
		break // one for all
	}
	for _, id := range identities(s, func(id spec.Identity) string { return id.ClientID }) {
		rules = append(rules, EnvRule{"AZURE_CLIENT_ID=" + id, false, MatchText})
	}
	if s.Kind != spec.AKS || len(s.Identities) == 0 {
		return rules
	}
	// A tenant that the specification does not name is the cluster's own.
	tenants := identities(s, func(id spec.Identity) string { return cmp.Or(id.TenantID, uuid) })
	for i, t := range tenants {
		if t != uuid {
			tenants[i] = regexp.QuoteMeta(t)
		}
	}
	return append(rules,
		EnvRule{fmt.Sprintf("^AZURE_TENANT_ID=(%s)$", strings.Join(tenants, "|")), false, MatchRE2},
		EnvRule{"AZURE_FEDERATED_TOKEN_FILE=" + tokenFile, false, MatchText},
		EnvRule{`^AZURE_AUTHORITY_HOST=https://[a-z0-9.-]+/?$`, false, MatchRE2})
}

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

// identities returns a property of the specification's identities, sorted, each
// once.
func identities(s spec.Specification, of func(spec.Identity) string) []string {
	var list []string
	for _, id := range s.Identities {
		list = append(list, of(id))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
