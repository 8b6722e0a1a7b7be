package localcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"

	"cloister/internal/fault"
	"cloister/internal/localcloud/identity"
	"cloister/internal/localcloud/platform"
	"cloister/internal/localcloud/wire"
)

// adminRequest is every request on the admin socket: one path an operation, the
// fields it needs set.
type adminRequest struct {
	Dir     string                `json:"dir,omitempty"`
	Guest   *platform.GuestConfig `json:"guest,omitempty"`
	Service string                `json:"service,omitempty"`
	Fault   *wire.Fault           `json:"fault,omitempty"`
	Name    string                `json:"name,omitempty"`
	Policy  []byte                `json:"policy,omitempty"`
	Names   []string              `json:"names,omitempty"`
	Tenant  string                `json:"tenant,omitempty"`
}

// adminFailure carries an error's text, kind and hints across the socket.
type adminFailure struct {
	Text  string     `json:"text"`
	Kind  fault.Kind `json:"kind"`
	Hints []string   `json:"hints"`
}

// adminHandler serves the admin socket.
func (c *Cloud) adminHandler() http.Handler {
	mux := http.NewServeMux()
	for path, serve := range map[string]func(adminRequest) (any, error){
		"POST /guests/launch": func(r adminRequest) (any, error) {
			if r.Guest == nil {
				return nil, fault.Errorf(fault.Usage, "", "no guest is described")
			}
			return nil, c.LaunchGuest(r.Dir, *r.Guest)
		},
		"POST /guests/remove": func(r adminRequest) (any, error) { return nil, c.RemoveGuest(r.Dir) },
		"POST /faults": func(r adminRequest) (any, error) {
			if r.Fault == nil {
				return nil, c.SetFault(r.Service, wire.Fault{})
			}
			return nil, c.SetFault(r.Service, *r.Fault)
		},
		"POST /identities":  func(r adminRequest) (any, error) { return c.AddIdentityIn(r.Tenant, r.Name) },
		"POST /federated":   func(r adminRequest) (any, error) { return c.FederatedTokenIn(r.Tenant, r.Name) },
		"POST /admissions":  func(r adminRequest) (any, error) { return nil, c.Admit(r.Policy, r.Names) },
		"POST /attestation": func(adminRequest) (any, error) { return nil, c.RotateAttestationKey() },
	} {
		mux.HandleFunc(path, c.administer(serve))
	}
	return mux
}

func (c *Cloud) administer(serve func(adminRequest) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request adminRequest
		err := wire.ReadJSON(r, &request)
		var answer any
		if err == nil {
			answer, err = serve(request)
		}
		if err != nil {
			wire.WriteJSON(w, http.StatusBadRequest, adminFailure{err.Error(), fault.KindOf(err), fault.Hints(err)})
			return
		}
		wire.WriteJSON(w, http.StatusOK, answer)
	}
}

// Admin administers a cloud that runs in another process.
type Admin struct{ client *http.Client }

// Dial returns the Admin of a state directory. Whether a cloud runs there shows
// with the first call.
func Dial(dir string) *Admin {
	socket := filepath.Join(dir, adminSocket)
	return &Admin{client: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, fault.Errorf(fault.Unavailable, "start it with cloister local up --dir "+dir,
					"no simulated cloud runs in %s: %w", dir, err)
			}
			return conn, nil
		},
	}}}
}

// LaunchGuest is Cloud.LaunchGuest.
func (a *Admin) LaunchGuest(ctx context.Context, dir string, config platform.GuestConfig) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return a.post(ctx, "/guests/launch", adminRequest{Dir: dir, Guest: &config}, nil)
}

// RemoveGuest is Cloud.RemoveGuest.
func (a *Admin) RemoveGuest(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	return a.post(ctx, "/guests/remove", adminRequest{Dir: dir}, nil)
}

// SetFault is Cloud.SetFault.
func (a *Admin) SetFault(ctx context.Context, service string, f wire.Fault) error {
	return a.post(ctx, "/faults", adminRequest{Service: service, Fault: &f}, nil)
}

// AddIdentity is Cloud.AddIdentity.
func (a *Admin) AddIdentity(ctx context.Context, name string) (identity.Identity, error) {
	return a.AddIdentityIn(ctx, "", name)
}

// AddIdentityIn is Cloud.AddIdentityIn.
func (a *Admin) AddIdentityIn(ctx context.Context, tenant, name string) (identity.Identity, error) {
	var i identity.Identity
	err := a.post(ctx, "/identities", adminRequest{Tenant: tenant, Name: name}, &i)
	return i, err
}

// FederatedToken is Cloud.FederatedToken.
func (a *Admin) FederatedToken(ctx context.Context, name string) (string, error) {
	return a.FederatedTokenIn(ctx, "", name)
}

// FederatedTokenIn is Cloud.FederatedTokenIn.
func (a *Admin) FederatedTokenIn(ctx context.Context, tenant, name string) (string, error) {
	var token string
	err := a.post(ctx, "/federated", adminRequest{Tenant: tenant, Name: name}, &token)
	return token, err
}

// Admit is Cloud.Admit.
func (a *Admin) Admit(ctx context.Context, policy []byte, resources []string) error {
	return a.post(ctx, "/admissions", adminRequest{Policy: policy, Names: resources}, nil)
}

// RotateAttestationKey is Cloud.RotateAttestationKey.
func (a *Admin) RotateAttestationKey(ctx context.Context) error {
	return a.post(ctx, "/attestation", adminRequest{}, nil)
}

func (a *Admin) post(ctx context.Context, path string, request adminRequest, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return failure(data)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

func failure(data []byte) error {
	var f adminFailure
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("the simulated cloud answered %q", data)
	}
	hint := ""
	if len(f.Hints) > 0 {
		hint = f.Hints[0]
	}
	return fault.Errorf(f.Kind, hint, "%w", errors.New(f.Text))
}
