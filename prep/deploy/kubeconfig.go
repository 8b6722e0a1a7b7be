package deploy

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"cloister/internal/fault"
)

// bearer is a token for an API server: a secret, which shows itself nowhere.
type bearer string

func (bearer) String() string               { return "[redacted]" }
func (b bearer) GoString() string           { return b.String() }
func (b bearer) LogValue() slog.Value       { return slog.StringValue(b.String()) }
func (b bearer) Format(f fmt.State, _ rune) { fmt.Fprint(f, b.String()) }

// kubeconfig is the file of kubectl, as far as it is taken:
// https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
type kubeconfig struct {
	CurrentContext string        `json:"current-context"`
	Contexts       []kubeContext `json:"contexts"`
	Clusters       []struct {
		Name    string      `json:"name"`
		Cluster kubeCluster `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string   `json:"name"`
		User kubeUser `json:"user"`
	} `json:"users"`
}

type kubeContext struct {
	Name    string `json:"name"`
	Context struct {
		Cluster   string `json:"cluster"`
		User      string `json:"user"`
		Namespace string `json:"namespace"`
	} `json:"context"`
}

type kubeCluster struct {
	Server     string `json:"server"`
	CAFile     string `json:"certificate-authority"`
	CA         string `json:"certificate-authority-data"` // base64
	ServerName string `json:"tls-server-name"`
	Insecure   bool   `json:"insecure-skip-tls-verify"`
	Proxy      string `json:"proxy-url"`
}

type kubeUser struct {
	Token           bearer `json:"token"`
	TokenFile       string `json:"tokenFile"`
	CertificateFile string `json:"client-certificate"`
	Certificate     string `json:"client-certificate-data"` // base64
	KeyFile         string `json:"client-key"`
	Key             bearer `json:"client-key-data"` // base64
	Exec            any    `json:"exec"`
	Provider        any    `json:"auth-provider"`
	Username        string `json:"username"`
}

// maxKubeconfig bounds the file; those of clusters with all their certificates have
// some 10 KiB a cluster.
const maxKubeconfig = 4 << 20

// Cluster is an API server, a namespace there, and who asks.
type Cluster struct {
	url, namespace string
	client         *http.Client
	token          func() (bearer, error) // nil where a certificate signs in
	retryWait      func(time.Duration) <-chan time.Time
}

// OpenCluster reads a kubeconfig. context and namespace are by default the file's.
// Errors are of kind fault.Usage where it says what is not taken: a server that is
// not verified, a proxy, a program that signs in.
func OpenCluster(file, context, namespace string) (*Cluster, error) {
	c, err := openCluster(file, context, namespace)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", file, err)
	}
	return c, nil
}

func openCluster(file, name, namespace string) (*Cluster, error) {
	config, err := readKubeconfig(file)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = config.CurrentContext
	}
	i := slices.IndexFunc(config.Contexts, func(c kubeContext) bool { return c.Name == name })
	if i < 0 || name == "" {
		return nil, fault.Errorf(fault.Usage, "give one that it has with --context", "it has no context %.80q", name)
	}
	at := config.Contexts[i].Context
	if namespace == "" {
		namespace = at.Namespace
	}
	if namespace == "" {
		namespace = "default"
	}
	c := &Cluster{namespace: namespace, retryWait: time.After}
	tlsConfig, err := c.reach(config, at.Cluster, filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	if err := c.signIn(config, at.User, filepath.Dir(file), tlsConfig); err != nil {
		return nil, err
	}
	c.client = &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{TLSClientConfig: tlsConfig, TLSHandshakeTimeout: 10 * time.Second},
		// A server that redirects would choose where the token goes.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

func readKubeconfig(file string) (config kubeconfig, err error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return config, fault.Errorf(fault.NotFound, "az aks get-credentials makes one; or give --kubeconfig", "it is not there")
	}
	if err != nil {
		return config, fault.Errorf(fault.Denied, "", "%w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKubeconfig+1))
	if err == nil && len(text) > maxKubeconfig {
		err = fmt.Errorf("it has more than %d bytes", maxKubeconfig)
	}
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if err != nil {
		return config, fault.Errorf(fault.Usage, "give a kubeconfig", "it cannot be read: %s", withoutValues(err))
	}
	return config, nil
}

// withoutValues is an error's text without what it may quote: a file of secrets.
func withoutValues(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		return fmt.Sprintf("%s is a %s", t.Field, t.Value)
	}
	return "it is no YAML of that form"
}

func (c *Cluster) reach(config kubeconfig, name, dir string) (*tls.Config, error) {
	for _, k := range config.Clusters {
		if k.Name != name {
			continue
		}
		u, err := url.Parse(k.Cluster.Server)
		switch {
		case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "":
			return nil, fault.Errorf(fault.Usage, "write it as https://HOST", "cluster %.80q has server %.200q", name, k.Cluster.Server)
		case k.Cluster.Insecure:
			return nil, fault.Errorf(fault.Usage, "give its certificate-authority", "cluster %.80q has insecure-skip-tls-verify: whoever answers would get the token", name)
		case k.Cluster.Proxy != "":
			return nil, fault.Errorf(fault.Usage, "", "cluster %.80q has proxy-url, which is not taken", name)
		}
		c.url = strings.TrimSuffix(k.Cluster.Server, "/")
		t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: k.Cluster.ServerName}
		roots, err := dataOr(k.Cluster.CA, k.Cluster.CAFile, dir)
		if err != nil || roots == nil {
			return t, err // the system's
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(roots) {
			return nil, fault.Errorf(fault.Usage, "give it in PEM", "cluster %.80q has a certificate-authority without a certificate", name)
		}
		return t, nil
	}
	return nil, fault.Errorf(fault.Usage, "", "it has no cluster %.80q", name)
}

func (c *Cluster) signIn(config kubeconfig, name, dir string, t *tls.Config) error {
	for _, k := range config.Users {
		if k.Name != name {
			continue
		}
		u := k.User
		certificate, err := dataOr(u.Certificate, u.CertificateFile, dir)
		if err != nil {
			return err
		}
		key, err := dataOr(string(u.Key), u.KeyFile, dir)
		if err != nil {
			return err
		}
		switch {
		case u.Token != "":
			c.token = func() (bearer, error) { return u.Token, nil }
		case u.TokenFile != "":
			c.token = func() (bearer, error) { return readToken(in(dir, u.TokenFile)) }
		case certificate != nil && key != nil:
			pair, err := tls.X509KeyPair(certificate, key)
			clear(key)
			if err != nil {
				return fault.Errorf(fault.Usage, "give certificate and key in PEM", "user %.80q has no client certificate that goes with its key", name)
			}
			t.Certificates = []tls.Certificate{pair}
		default:
			return fault.Errorf(fault.Usage, "give a user with token, tokenFile or a client certificate: of a program that signs in (exec, as kubelogin) write the token that it prints into a file, and name that as tokenFile",
				"user %.80q has nothing that is taken here", name)
		}
		return nil
	}
	return fault.Errorf(fault.Usage, "", "it has no user %.80q", name)
}

// readToken is asked for each request: a token of Kubernetes is renewed in its file.
func readToken(file string) (bearer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fault.Errorf(fault.NotFound, "", "reading the token: %w", err)
	}
	defer clear(text)
	token := bearer(bytes.TrimSpace(text))
	if token == "" || strings.ContainsAny(string(token), " \r\n") {
		return "", fault.Errorf(fault.Usage, "", "the file %s does not hold a token", file)
	}
	return token, nil
}

// dataOr returns what is in base64, or in a file; nil where neither is named.
func dataOr(data, file, dir string) ([]byte, error) {
	switch {
	case data != "":
		b, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, fault.Errorf(fault.Usage, "", "it has data that is not base64")
		}
		return b, nil
	case file == "":
		return nil, nil
	}
	b, err := os.ReadFile(in(dir, file))
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, "", "%w", err)
	}
	return b, nil
}

// in resolves a file's name as kubectl does: against the folder of the kubeconfig.
func in(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// maxAnswer bounds an answer in bytes: a job's pods with their status have some KiB
// each. A log may have as many.
const maxAnswer = 32 << 20

// send asks the API server, again where it says that it is asked too often, and
// returns the answer's body. An answer of another status than 2xx is a *statusError.
func (c *Cluster) send(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	for try := 1; ; try++ {
		answer, err := c.once(ctx, method, path, contentType, body)
		var status *statusError
		if !errors.As(err, &status) || status.code != http.StatusTooManyRequests || try == maxTries || status.wait > maxWait {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.retryWait(status.wait):
		}
	}
}

// How often it is asked, and how long it is waited for in between: what asks for
// more is the user's to decide.
const (
	maxTries = 4
	maxWait  = 30 * time.Second
)

func (c *Cluster) once(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json, */*")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.token != nil {
		token, err := c.token()
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, newStatusError(resp, answer)
	case len(answer) > maxAnswer:
		return nil, fault.Errorf(fault.Refused, "", "the API server's answer has more than %d bytes", maxAnswer)
	}
	return answer, nil
}
