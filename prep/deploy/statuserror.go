package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"cloister/internal/fault"
)

// statusError is an API server's refusal:
// https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
type statusError struct {
	code    int
	reason  string
	message string
	wait    time.Duration // how long it asks to wait; a second where it says nothing
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the API server answers %d %s: %.1000s", e.code, e.reason, e.message)
}

func newStatusError(resp *http.Response, answer []byte) *statusError {
	var s struct {
		Message string `json:"message"`
		Reason  string `json:"reason"`
	}
	if err := json.Unmarshal(answer, &s); err != nil {
		s.Message = fmt.Sprintf("%.200q", answer)
	}
	e := &statusError{code: resp.StatusCode, reason: s.Reason, message: s.Message, wait: time.Second}
	if n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		e.wait = time.Duration(n) * time.Second
	}
	return e
}

func isStatus(err error, code int) bool {
	var s *statusError
	return errors.As(err, &s) && s.code == code
}

// forbidden is how the API server names what a caller may not.
var (
	forbidden = regexp.MustCompile(`cannot (\S+) resource "([^"]+)" in API group "([^"]*)"`)
	quota     = regexp.MustCompile(`exceeded quota`)
)

// explain classifies what an API server, or the way to it, answered.
func (c *Cluster) explain(err error, doing string) error {
	if err == nil {
		return nil
	}
	var s *statusError
	if !errors.As(err, &s) {
		if fault.KindOf(err) != fault.Internal {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return fault.Errorf(fault.Unavailable, "check the kubeconfig's server and certificate-authority; then give the command again, which goes on where this one stopped", "%s: %w", doing, err)
	}
	kind, hint := c.remedy(s)
	return fault.Errorf(kind, hint, "%s: %w", doing, err)
}

func (c *Cluster) remedy(s *statusError) (fault.Kind, string) {
	switch m := forbidden.FindStringSubmatch(s.message); {
	case s.code == http.StatusUnauthorized:
		return fault.Denied, "the cluster does not know this identity: make the kubeconfig anew, or take another --context"
	case s.code == http.StatusForbidden && quota.MatchString(s.message):
		return fault.Unavailable, "delete what is not used in namespace " + c.namespace + ", or have its ResourceQuota raised"
	case s.code == http.StatusForbidden && m != nil:
		resource := m[2]
		if m[3] != "" {
			resource += "." + m[3]
		}
		return fault.Denied, fmt.Sprintf("the permission %s on %s is missing: ask for a Role with it in namespace %s, such as the ClusterRole edit, on AKS Azure Kubernetes Service RBAC Writer", m[1], resource, c.namespace)
	case s.code == http.StatusForbidden:
		return fault.Denied, "have what refuses it, a policy or a missing service account, changed by who runs the cluster"
	case s.code == http.StatusNotFound:
		return fault.NotFound, "create namespace " + c.namespace + ", or name another with --namespace"
	case s.code == http.StatusConflict:
		return fault.Conflict, "see who else manages it; after `cloister deploy down`, up makes it anew"
	case s.code == http.StatusTooManyRequests:
		return fault.Unavailable, fmt.Sprintf("the API server is asked too often: wait %d seconds and give the command again, which goes on where this one stopped", int(s.wait.Seconds()))
	case s.code >= 500:
		return fault.Unavailable, "give the command again later; it goes on where this one stopped"
	case s.code >= 300 && s.code < 400:
		return fault.Refused, "give the server's own address in the kubeconfig: a redirect is not followed"
	}
	return fault.Refused, "see what the API server says; a manifest that `cloister deploy verify` finds unchanged it should take"
}
