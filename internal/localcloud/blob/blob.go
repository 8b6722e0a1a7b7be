// Package blob puts Azure's access control in front of Azurite, which has none:
// whoever has no role at a container gets the blob service's own refusal.
//
// Life of a request: it must carry a token of the directory for the blob service
// (keys and signatures are refused, as by an account that allows Entra ID alone);
// what it asks decides the action, its path the container; if a role of the
// caller's has that action there, the request goes on to Azurite under a
// signature made here, and the answer comes back as it is.
package blob

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"cloister/internal/localcloud/access"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/wire"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// The account and key that every Azurite knows. They are published with it and
// protect nothing.
// https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
const (
	Account = "devstoreaccount1"
	key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// audience is what a token for the blob service is issued for.
const audience = "https://storage.azure.com"

// maxBody is more than any client here sends in one request (Azure takes up to
// 5,000 MiB in a Put Blob).
const maxBody = 1 << 30

const actions = "Microsoft.Storage/storageAccounts/blobServices/containers/"

// Directory authenticates a caller.
type Directory interface {
	Authenticate(token, audience string, now time.Time) (string, error)
}

// Config says what a Service stands on. All but Enforce and Account is required.
type Config struct {
	Server    *wire.Server
	Directory Directory
	Roles     *access.Book
	Enforce   bool
	// Account is its name, "" for Azurite's own. All accounts of a cloud are kept in
	// that one: another's containers have a prefix there.
	Account string
	// Resource is the ARM id of the account; Azurite the address of the real one.
	Resource, Azurite string
	Challenge         string // the tenant's address, for the 401
}

// Service is a blob service. It is safe for concurrent use.
type Service struct {
	Config
	upstream  *url.URL
	signature string // query of an account SAS
	proxy     *httputil.ReverseProxy
}

// New returns the service; Azurite is asked nothing yet.
func New(c Config) (*Service, error) {
	c.Server.MaxBody = maxBody
	c.Account = cmp.Or(c.Account, Account)
	upstream, err := url.Parse(c.Azurite)
	if err != nil {
		return nil, err
	}
	credential, err := service.NewSharedKeyCredential(Account, key)
	if err != nil {
		return nil, err
	}
	// For ten years: the signature never leaves this machine, and its key is public.
	q, err := sas.AccountSignatureValues{
		Protocol: sas.ProtocolHTTPSandHTTP, ExpiryTime: time.Now().UTC().AddDate(10, 0, 0),
		Permissions:   (&sas.AccountPermissions{Read: true, Write: true, Delete: true, List: true, Add: true, Create: true, Update: true}).String(),
		ResourceTypes: (&sas.AccountResourceTypes{Service: true, Container: true, Object: true}).String(),
	}.SignWithSharedKey(credential)
	if err != nil {
		return nil, err
	}
	s := &Service{Config: c, upstream: upstream, signature: q.Encode()}
	s.proxy = &httputil.ReverseProxy{Rewrite: s.rewrite, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		refuse(w, http.StatusServiceUnavailable, "ServerBusy", "Azurite does not answer: "+err.Error())
	}}
	return s, nil
}

func (s *Service) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = s.upstream.Scheme, s.upstream.Host, s.upstream.Host
	r.Out.URL.RawQuery = strings.TrimPrefix(r.In.URL.RawQuery+"&"+s.signature, "&")
	r.Out.Header.Del("Authorization")
	container, blob, _ := strings.Cut(strings.TrimPrefix(r.In.URL.EscapedPath(), "/"+s.Account+"/"), "/")
	kept := "/" + Account + "/" + s.kept(container)
	if blob != "" {
		kept += "/" + blob
	}
	// Of an escaped path that was parsed once already: it cannot fail.
	r.Out.URL.Path, _ = url.PathUnescape(kept)
	r.Out.URL.RawPath = kept
}

// foreign begins the names that the containers of other accounts have at Azurite.
const foreign = "accountof-"

// kept is the name of a container at Azurite.
func (s *Service) kept(container string) string {
	if s.Account == Account {
		return container
	}
	return foreign + s.Account + "-" + container
}

// Handler serves the wire protocol, path style: /ACCOUNT/CONTAINER/BLOB.
func (s *Service) Handler() http.Handler {
	return s.Server.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok && (r.Header.Get("Authorization") != "" || r.URL.Query().Has("sig")) {
			refuse(w, http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this storage account.")
			return
		}
		caller, err := s.Directory.Authenticate(token, audience, s.Server.Now())
		if err != nil {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization_uri=%s/oauth2/authorize resource_id=%s", s.Challenge, audience))
			if errors.As(err, new(identity.WrongTenant)) {
				wire.Note(r, "%v", err)
				refuse(w, http.StatusUnauthorized, "InvalidAuthenticationInfo", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header. Issuer validation failed. Issuer did not match.")
				return
			}
			refuse(w, http.StatusUnauthorized, "NoAuthenticationInformation", "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.")
			return
		}
		wire.SetCaller(r, caller)
		s.admit(w, r, caller)
	}))
}

func (s *Service) admit(w http.ResponseWriter, r *http.Request, caller string) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	if parts[0] != s.Account || len(parts) < 2 || parts[1] == "" || strings.HasPrefix(parts[1], foreign) {
		refuse(w, http.StatusNotFound, "ResourceNotFound", "The simulated blob service has the account "+s.Account+" and requests about its containers and blobs.")
		return
	}
	scope := s.Resource + "/blobServices/default/containers/" + parts[1]
	plane, action := actionOf(r, len(parts) == 3 && parts[2] != "")
	if s.Enforce && !s.Roles.Allows(caller, plane, action, scope) {
		wire.Note(r, "%s at %s", action, scope)
		refuse(w, http.StatusForbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
		return
	}
	s.proxy.ServeHTTP(w, r)
}

// actionOf is what a request needs, after the service's table of permissions for
// its operations:
// https://learn.microsoft.com/rest/api/storageservices/authorize-with-azure-active-directory
func actionOf(r *http.Request, ofBlob bool) (access.Plane, string) {
	verb := map[string]string{http.MethodGet: "read", http.MethodHead: "read", http.MethodDelete: "delete"}[r.Method]
	if verb == "" {
		verb = "write"
	}
	if ofBlob || r.URL.Query().Get("comp") == "list" {
		return access.Data, actions + "blobs/" + verb
	}
	return access.Management, actions + verb
}

// refuse answers in the blob service's form.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("x-ms-error-code", code)
	w.WriteHeader(status)
	io.WriteString(w, xml.Header) //nolint:errcheck // the client is gone
	xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: message}) //nolint:errcheck // likewise
}

// Container asks Azurite about a container, or to make or delete it: Azure's
// management plane does that without a role of the data plane.
func (s *Service) Container(r *http.Request, method, name string) (status int, err error) {
	u := *s.upstream
	u.Path, u.RawQuery = "/"+Account+"/"+s.kept(name), "restype=container&"+s.signature
	req, err := http.NewRequestWithContext(r.Context(), method, u.String(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}
