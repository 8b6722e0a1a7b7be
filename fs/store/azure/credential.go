package azure

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"cloister/internal/fault"
)

// connectionVariable is the environment variable that Azure's own tools take a
// connection string from.
const connectionVariable = "AZURE_STORAGE_CONNECTION_STRING"

// sasToken is a shared access signature: whoever has it has the access that it
// grants. It shows itself nowhere; the pointer keeps it from fmt where it is a
// field of something else, whose methods fmt does not call.
type sasToken struct{ query *string }

func (sasToken) String() string             { return "SAS" }
func (sasToken) GoString() string           { return "SAS" }
func (sasToken) Format(s fmt.State, _ rune) { io.WriteString(s, "SAS") }
func (sasToken) LogValue() slog.Value       { return slog.StringValue("SAS") }

// parseSAS accepts no query, or one that is a SAS and nothing else.
func parseSAS(query string) (sasToken, error) {
	if query == "" {
		return sasToken{}, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil || values.Get("sig") == "" {
		return sasToken{}, errors.New("what follows the question mark is not a SAS")
	}
	for _, other := range []string{"comp", "restype", "snapshot", "versionid"} {
		if values.Has(other) {
			return sasToken{}, fmt.Errorf("what follows the question mark holds %q, which is no part of a SAS", other)
		}
	}
	return sasToken{&query}, nil
}

// credentialKind says how the store proves who is asking; the remedy for a
// refusal depends on it.
type credentialKind int

const (
	bySAS credentialKind = iota
	byConnectionString
	byIdentity
)

// connect makes the container's client with the first credential there is: a
// SAS in the URL, the credential that the caller injected, the environment's
// connection string if it is for this account, and else the identity that
// azidentity finds.
func connect(l location, o Options, client *http.Client) (*container.Client, credentialKind, error) {
	options := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: meter{client},
		// This package retries by itself (see retry.go for why).
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{ApplicationID: "cloister"},
	}}
	place := l.endpoint + "/" + l.container
	if l.sas.query != nil {
		c, err := container.NewClientWithNoCredential(place+"?"+*l.sas.query, options)
		return c, bySAS, err
	}
	if text := os.Getenv(connectionVariable); o.Credential == nil && text != "" {
		c, err := connectByString(l, text, options)
		if c != nil || err != nil {
			return c, byConnectionString, err
		}
	}
	credential, err := identity(l, o, client)
	if err != nil {
		return nil, byIdentity, err
	}
	c, err := container.NewClient(place, credential, options)
	return c, byIdentity, err
}

// connectByString returns nil without an error if the connection string is for
// another account. Its errors don't quote it.
func connectByString(l location, text string, options *container.ClientOptions) (*container.Client, error) {
	if strings.HasPrefix(text, "UseDevelopmentStorage=true") {
		return nil, nil // Azurite on its default port, which can be written out
	}
	c, err := container.NewClientFromConnectionString(text, l.container, options)
	if err != nil {
		return nil, fault.Errorf(fault.Usage, "copy it from the storage account's access keys, or unset it",
			"volume %s: %s is not a connection string", l, connectionVariable)
	}
	u, err := url.Parse(c.URL())
	if err != nil || !strings.EqualFold(u.Scheme+"://"+u.Host+u.Path, l.endpoint+"/"+l.container) {
		return nil, nil
	}
	return c, nil
}

// identity returns the credential whose tokens are sent to the store. A URL
// comes from the command line or from another party: a token must not follow it
// to a host that isn't Azure's.
func identity(l location, o Options, client *http.Client) (azcore.TokenCredential, error) {
	if strings.HasPrefix(l.endpoint, "http:") {
		return nil, fault.Errorf(fault.Usage, "set "+connectionVariable+" for this endpoint, or put a SAS into the URL",
			"volume %s: there is no credential for it, and an identity's token is not sent over http", l)
	}
	if !l.isAzure() && !l.loopback {
		return nil, fault.Errorf(fault.Usage, "check the URL; for a blob service of your own, set "+connectionVariable+" or put a SAS into the URL",
			"volume %s: %s is not a host of Azure's blob service, so no identity's token is sent to it", l, l.host)
	}
	if o.Credential != nil {
		return o.Credential, nil
	}
	credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: policy.ClientOptions{Cloud: cloudOf(l), Transport: client},
	})
	if err != nil {
		return nil, fault.Errorf(fault.Denied, signIn, "volume %s: finding an identity: %w", l, err)
	}
	return credential, nil
}

// cloudOf returns the cloud whose identity service answers for the host. The
// zero value leaves it to AZURE_AUTHORITY_HOST, and else to the public cloud.
func cloudOf(l location) cloud.Configuration {
	if os.Getenv("AZURE_AUTHORITY_HOST") != "" {
		return cloud.Configuration{}
	}
	switch {
	case strings.HasSuffix(l.host, ".usgovcloudapi.net"):
		return cloud.AzureGovernment
	case strings.HasSuffix(l.host, ".chinacloudapi.cn"):
		return cloud.AzureChina
	}
	return cloud.Configuration{}
}
