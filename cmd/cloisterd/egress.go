package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"

	"cloister/enclave/launch"
	"cloister/enclave/proxy"
	"cloister/enclave/rego"
	"cloister/internal/fault"
	"cloister/policy/cce"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

func policiesFlag() urfave.Flag {
	return &urfave.StringFlag{Name: "policies", Usage: "the `DIR` of the Rego files that the specification pins (default: --specification's, or the variable " + cce.PoliciesVariable + ", in base64)"}
}

// policiesDir is where a command finds the policies; "" is the variable.
func policiesDir(c *urfave.Context) string {
	if dir := c.String("policies"); dir != "" || c.String("specification") == "" {
		return dir
	}
	return filepath.Dir(c.String("specification"))
}

// maxPolicy bounds a policy's text in bytes: what the policy engine takes.
const maxPolicy = rego.MaxFrame

// policyText is a policy that the specification pins, from where the host put it;
// another is refused.
func policyText(dir string, pinned spec.PolicyFile) ([]byte, error) {
	from := policyFile
	if dir == "" {
		from = policyVariable
	}
	text, err := from(dir, pinned.File)
	if err != nil {
		return nil, err
	}
	return text, pinned.Check(text)
}

func policyFile(dir, name string) ([]byte, error) {
	const hint = "put the files that the parties agreed on into one directory, and give it with --policies"
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return nil, fault.Errorf(fault.NotFound, hint, "policy %s is nowhere", name)
	}
	file := filepath.Join(dir, filepath.FromSlash(name))
	if info, err := os.Stat(file); err != nil || info.Size() > maxPolicy {
		return nil, fault.Errorf(fault.NotFound, hint, "policy %s is not in %s, or has more than %d bytes: %v", name, dir, maxPolicy, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Errorf(fault.NotFound, hint, "reading policy %s: %w", name, err)
	}
	return text, nil
}

// policyVariable takes a policy from the variable that the container policy admits.
func policyVariable(_, name string) ([]byte, error) {
	const hint = "deploy what `cloister deploy template` writes, or give the files' directory with --policies"
	value := os.Getenv(cce.PoliciesVariable)
	if value == "" {
		return nil, fault.Errorf(fault.NotFound, hint, "policy %s is nowhere: neither --policies nor %s", name, cce.PoliciesVariable)
	}
	texts, err := cce.ReadPolicies(value)
	if err != nil {
		return nil, err
	}
	text, ok := texts[name]
	if !ok {
		return nil, fault.Errorf(fault.NotFound, hint, "policy %s is not in %s", name, cce.PoliciesVariable)
	}
	return []byte(text), nil
}

// engineProgram is beside the runtime: in its image, and so measured with it.
const engineProgram = "cloister-rego"

// engineUser is who policies are asked as: neither root nor the application.
func engineUser(s spec.Specification) uint32 {
	const user = 65533
	if uid, _ := applicationUser(s); uid == user {
		return user - 1
	}
	return user
}

// newEngine returns the policies' engine, which starts when it is asked.
func newEngine(s spec.Specification) (*rego.Engine, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("looking for the policies' engine: %w", err)
	}
	user := engineUser(s)
	return rego.New(rego.Config{Program: filepath.Join(filepath.Dir(own), engineProgram), UID: user, GID: user}), nil
}

// policy is one that the specification pins, ready to be asked.
func (r *room) policy(ctx context.Context, pinned spec.PolicyFile) (*rego.Policy, error) {
	text, err := policyText(r.policies, pinned)
	if err != nil {
		return nil, err
	}
	if r.engine == nil {
		if r.engine, err = newEngine(r.spec); err != nil {
			return nil, err
		}
	}
	return r.engine.Prepare(ctx, pinned.File, text)
}

// openEgress makes ready what lets the application out, where the specification
// does; a policy that does not compile ends the run before keys are asked for.
func (r *room) openEgress(ctx context.Context) error {
	if r.spec.Network.Egress == spec.EgressClosed || r.spec.Network.Egress == spec.EgressUnguarded {
		return nil
	}
	config := proxy.EgressConfig{Network: r.spec.Network, Record: r.record.RecordEgress, Log: r.log}
	if pinned := r.spec.Network.Policy; pinned != nil {
		policy, err := r.policy(ctx, *pinned)
		if err != nil {
			return err
		}
		config.Policy = policy
	}
	var err error
	r.egress, err = proxy.NewEgress(config)
	return err
}

// closeEgress ends what openEgress made.
func (r *room) closeEgress() {
	if r.egress != nil {
		r.egress.Close()
	}
	if r.engine != nil {
		r.engine.Close()
	}
}

// reportTraffic records what the application reached, and for what its clients were
// turned away, since it was last recorded.
func (r *room) reportTraffic(ctx context.Context) error {
	if r.egress != nil {
		if err := r.egress.Report(ctx); err != nil {
			return fmt.Errorf("recording what the application reached: %w", err)
		}
	}
	if err := proxy.ReportIngress(ctx, r.endpoints, r.record.RecordIngress); err != nil {
		return fmt.Errorf("recording what the endpoints refused: %w", err)
	}
	return nil
}

const (
	// egressAddress is where the application finds its way out: the port that
	// proxies of HTTP usually have, as Squid's.
	egressAddress = "127.0.0.1:3128"
	// egressAuthority is the file with the authority of the proxy's certificates.
	egressAuthority = "cloister-egress.pem"
)

// letOut gives an application the proxy, and tells it of it in the variables that
// HTTP clients know, as far as the specification does not set them.
func (r *room) letOut(app *launch.Application) {
	if r.egress == nil {
		return
	}
	environment := r.egressVariables()
	maps.Copy(environment, app.Environment)
	app.Environment = environment
	if pem := r.egress.Certificate(); pem != nil {
		app.Texts = map[string][]byte{egressAuthority: pem}
	}
	others := app.Network
	app.Network = func(n *launch.Network) error {
		ctx, cancel := context.WithTimeout(context.Background(), listenTime)
		defer cancel()
		l, err := n.Listen(ctx, egressAddress)
		if err != nil {
			return err
		}
		go r.serveEgress(l)
		if others == nil {
			return nil
		}
		return others(n)
	}
}

func (r *room) serveEgress(l net.Listener) {
	if err := r.egress.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		r.log.Warn("the application's way out ended", "error", err)
	}
}

// egressVariables are those of clients: curl's, OpenSSL's and Go's, Python's
// requests', Node's, git's and AWS's.
func (r *room) egressVariables() map[string]string {
	env := map[string]string{"NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		env[name] = "http://" + egressAddress
	}
	if r.egress.Certificate() != nil {
		for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE"} {
			env[name] = r.authorityFile()
		}
	}
	return env
}
