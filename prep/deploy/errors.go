package deploy

import (
	"errors"
	"net/http"
	"regexp"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"cloister/internal/fault"
	"cloister/prep/provision"
)

// What Azure Container Instances and Resource Manager answer beside what every
// service does, by their codes:
// https://learn.microsoft.com/azure/container-instances/container-instances-troubleshooting
// https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
var remedies = []struct {
	code *regexp.Regexp
	kind fault.Kind
	hint string
}{
	{regexp.MustCompile(`Quota|ServiceUnavailable|CapacityExceeded|Insufficient`), fault.Unavailable, "delete container groups that are not used, ask for more quota of Microsoft.ContainerInstance in this region, or take another with --location; then give the command again"},
	{regexp.MustCompile(`^(MissingSubscriptionRegistration|SubscriptionNotRegistered|NoRegisteredProviderFound)$`), fault.Denied, "register the provider: az provider register --namespace Microsoft.ContainerInstance, which takes the role Contributor on the subscription"},
	{regexp.MustCompile(`^(InaccessibleImage|InvalidImageRegistryCredential|RegistryErrorResponse)$`), fault.Denied, "push the image, and give the identity that pulls it the role AcrPull on the registry"},
	{regexp.MustCompile(`^(LocationNotAvailableForResourceType|SkuNotAvailable|RegionNotSupported)$`), fault.Usage, "take a region that has sku Confidential, with --location"},
	{regexp.MustCompile(`^(ReadOnlyDisabledSubscription|ScopeLocked|RequestDisallowedByPolicy)$`), fault.Denied, "have who locked the scope, or who assigned the policy, allow it"},
}

// explain adds the answers of container groups to those of every service.
func explain(err error, doing, role string) error {
	if err == nil {
		return nil
	}
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		return provision.Explain(err, doing, role)
	}
	for _, r := range remedies {
		if answer.StatusCode != http.StatusTooManyRequests && r.code.MatchString(answer.ErrorCode) {
			return fault.Errorf(r.kind, r.hint, "%s: %w", doing, err)
		}
	}
	if answer.StatusCode == http.StatusBadRequest {
		return fault.Errorf(fault.Refused, "see what the service says; a template that `cloister deploy verify` finds unchanged it should take", "%s: %w", doing, err)
	}
	return provision.Explain(err, doing, role)
}
