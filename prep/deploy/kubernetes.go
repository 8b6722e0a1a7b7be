package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloister/internal/fault"
	"cloister/policy/template"
)

// kinds are where the API has what templates are made of.
var kinds = map[string]struct{ apiVersion, path string }{
	"Pod":            {"v1", "/api/v1/namespaces/%s/pods"},
	"Job":            {"batch/v1", "/apis/batch/v1/namespaces/%s/jobs"},
	"ServiceAccount": {"v1", "/api/v1/namespaces/%s/serviceaccounts"},
}

// objectName is a DNS subdomain (RFC 1123), which all names of objects here are.
var objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// InKubernetes returns the room of a manifest's objects in a cluster's namespace.
func InKubernetes(c *Cluster, t template.Template) (*Room, error) {
	if !objectName.MatchString(c.namespace) {
		return nil, fault.Errorf(fault.Usage, "give one that the cluster has", "%.80q is not a namespace's name", c.namespace)
	}
	resources, err := t.Resources("")
	for _, r := range resources {
		if k := kinds[r.Kind]; k.apiVersion == "" || k.apiVersion != r.APIVersion || !objectName.MatchString(r.Name) {
			return nil, fault.Errorf(fault.Usage, "generate it again with `cloister deploy template`", "the manifest has a %.80q %.80q, which is none of a clean room's", r.APIVersion+" "+r.Kind, r.Name)
		}
	}
	return &Room{platform: c, resources: resources, Pause: 2 * time.Second}, err
}

func (c *Cluster) at(r template.Resource) string {
	return c.all(r.Kind) + "/" + r.Name
}

// all is where the objects of a kind are.
func (c *Cluster) all(kind string) string { return fmt.Sprintf(kinds[kind].path, c.namespace) }

func (c *Cluster) named(r template.Resource) string {
	return strings.ToLower(r.Kind) + " " + c.namespace + "/" + r.Name
}

// kubeObject is one of these kinds as far as it is looked at.
type kubeObject struct {
	Metadata kubeMeta        `json:"metadata"`
	Spec     json.RawMessage `json:"spec"`
	Status   kubeStatus      `json:"status"`
}

type kubeMeta struct {
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations"`
	Deleted     string            `json:"deletionTimestamp"`
}

// kubeStatus is of a pod, or of a job.
type kubeStatus struct {
	Phase      string `json:"phase"`
	Reason     string `json:"reason"`
	Message    string `json:"message"`
	Ready      int    `json:"ready"`
	Succeeded  int    `json:"succeeded"`
	Failed     int    `json:"failed"`
	Conditions []struct {
		Type    string `json:"type"`
		Status  string `json:"status"`
		Message string `json:"message"`
	} `json:"conditions"`
	Containers []struct {
		Name         string `json:"name"`
		RestartCount int    `json:"restartCount"`
		State        struct {
			Waiting    *kubeState `json:"waiting"`
			Running    *kubeState `json:"running"`
			Terminated *kubeState `json:"terminated"`
		} `json:"state"`
	} `json:"containerStatuses"`
}

type kubeState struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Exit    int    `json:"exitCode"`
}

type kubePod struct {
	Containers []struct {
		Name    string      `json:"name"`
		Image   string      `json:"image"`
		Command []string    `json:"command"`
		Env     []nameValue `json:"env"`
	} `json:"containers"`
}

type kubeJob struct {
	Completions int `json:"completions"`
	Template    struct {
		Metadata kubeMeta `json:"metadata"`
		Spec     kubePod  `json:"spec"`
	} `json:"template"`
}

const policyAnnotation = "microsoft.containerinstance.virtualnode.ccepolicy"

// shape is of what a pod or a job starts. A cluster's own webhooks add variables.
func (o kubeObject) shape(kind string) (s shape, err error) {
	pod, meta := kubePod{}, o.Metadata
	switch kind {
	case "Pod":
		err = json.Unmarshal(o.Spec, &pod)
	case "Job":
		var job kubeJob
		err = json.Unmarshal(o.Spec, &job)
		pod, meta = job.Template.Spec, job.Template.Metadata
	}
	s.policy, s.added = meta.Annotations[policyAnnotation], true
	for _, c := range pod.Containers {
		s.containers = append(s.containers, started{c.Name, c.Image, c.Command, c.Env})
	}
	return s, err
}

func (c *Cluster) look(ctx context.Context, r template.Resource) (Unit, error) {
	u := Unit{Kind: strings.ToLower(r.Kind), Name: c.namespace + "/" + r.Name, State: Missing}
	var have, want kubeObject
	err := c.get(ctx, c.at(r), &have)
	if isStatus(err, http.StatusNotFound) {
		return c.remains(ctx, r, u)
	}
	if err == nil {
		err = recode(r.Body, &want)
	}
	var is, should shape
	if err == nil {
		is, err = have.shape(r.Kind)
	}
	if err == nil {
		should, err = want.shape(r.Kind)
	}
	if err != nil {
		return u, c.explain(err, "looking at the "+c.named(r))
	}
	if differ := differencesOf(want, have, should, is); differ != "" {
		u.State, u.Detail = Differs, differ
		return u, nil
	}
	if err := c.state(ctx, r, have, &u); err != nil {
		return u, c.explain(err, "looking at the pods of "+c.named(r))
	}
	return u, nil
}

// remains is of an object that is not there: a job's pods may end after it.
func (c *Cluster) remains(ctx context.Context, r template.Resource, u Unit) (Unit, error) {
	if r.Kind != "Job" {
		return u, nil
	}
	pods, err := c.pods(ctx, r)
	if len(pods) > 0 {
		u.State, u.Detail = Deleting, fmt.Sprintf("%d of its pods are left", len(pods))
	}
	return u, c.explain(err, "looking at the pods of "+c.named(r))
}

// differencesOf are those of what is started, and of the annotations that a template
// writes: of a service account, whom it stands for.
func differencesOf(want, have kubeObject, should, is shape) string {
	list := []string{should.differences(is)}
	for name, value := range want.Metadata.Annotations {
		if name != policyAnnotation && have.Metadata.Annotations[name] != value {
			list = append(list, "it has another "+name)
		}
	}
	slices.Sort(list)
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), "; ")
}

func (c *Cluster) get(ctx context.Context, path string, into any) error {
	answer, err := c.send(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fault.Errorf(fault.Refused, "check the kubeconfig's server", "the answer is none of an API server's")
	}
	return nil
}

// state fills in how far an object has come; of a job also its pods' containers.
func (c *Cluster) state(ctx context.Context, r template.Resource, o kubeObject, u *Unit) error {
	switch {
	case o.Metadata.Deleted != "":
		u.State = Deleting
		return nil
	case r.Kind == "ServiceAccount":
		u.State = There
		return nil
	case r.Kind == "Pod":
		u.State, u.Detail, u.Containers = o.Status.pod("")
		return nil
	}
	pods, err := c.pods(ctx, r)
	if err != nil {
		return err
	}
	for _, p := range pods {
		_, detail, containers := p.Status.pod(p.Metadata.Name + "/")
		u.Containers = append(u.Containers, containers...)
		if detail != "" {
			u.Detail = detail
		}
	}
	var job kubeJob
	if err := json.Unmarshal(o.Spec, &job); err != nil {
		return err
	}
	u.State = o.Status.job(job.Completions)
	return nil
}

// pods are those of a job.
func (c *Cluster) pods(ctx context.Context, r template.Resource) ([]kubeObject, error) {
	var list struct {
		Items []kubeObject `json:"items"`
	}
	selector := url.QueryEscape("batch.kubernetes.io/job-name=" + r.Name)
	err := c.get(ctx, c.all("Pod")+"?labelSelector="+selector, &list)
	return list.Items, err
}

func (s kubeStatus) job(completions int) string {
	for _, c := range s.Conditions {
		switch {
		case c.Status != "True":
		case c.Type == "Complete":
			return Succeeded
		case c.Type == "Failed":
			return Failed
		}
	}
	if n := s.Ready + s.Succeeded + s.Failed; n > 0 && n >= completions {
		return Running
	}
	return Pending
}

// pod is the state of a pod, and why, where it is not as it should be.
func (s kubeStatus) pod(prefix string) (state, detail string, containers []Container) {
	details := []string{s.Message}
	for _, k := range s.Containers {
		c := Container{Name: prefix + k.Name, State: "waiting", Restarts: k.RestartCount}
		switch {
		case k.State.Running != nil:
			c.State = "running"
		case k.State.Terminated != nil:
			c.State, c.Exit, c.Detail = "terminated", &k.State.Terminated.Exit, k.State.Terminated.Reason
		case k.State.Waiting != nil:
			c.Detail = fmt.Sprintf("%.300s", strings.TrimSpace(k.State.Waiting.Reason+" "+k.State.Waiting.Message))
		}
		containers = append(containers, c)
	}
	for _, c := range s.Conditions {
		if c.Type == "PodScheduled" && c.Status == "False" {
			details = append(details, c.Message)
		}
	}
	known := map[string]string{"Running": Running, "Succeeded": Succeeded, "Failed": Failed}
	if state = known[s.Phase]; state == "" {
		state = Pending
	}
	return state, fmt.Sprintf("%.300s", strings.Join(slices.DeleteFunc(details, func(s string) bool { return s == "" }), "; ")), containers
}

// fieldManager is by which name the cluster remembers who said what.
const fieldManager = "cloister"

// make applies an object on the server's side: the same again changes nothing, and a
// field that another manager has is a conflict.
func (c *Cluster) make(ctx context.Context, r template.Resource) error {
	body, err := json.Marshal(r.Body)
	if err != nil {
		return err
	}
	_, err = c.send(ctx, http.MethodPatch, c.at(r)+"?fieldManager="+fieldManager+"&fieldValidation=Strict", "application/apply-patch+yaml", body)
	return c.explain(err, "making the "+c.named(r))
}

// take deletes an object; the cluster then deletes a job's pods.
func (c *Cluster) take(ctx context.Context, r template.Resource) error {
	_, err := c.send(ctx, http.MethodDelete, c.at(r), "application/json", []byte(`{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}`))
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return c.explain(err, "deleting the "+c.named(r))
}

func (c *Cluster) logs(ctx context.Context, r template.Resource, container string, tail int, w io.Writer) error {
	var o kubeObject
	if err := recode(r.Body, &o); err != nil {
		return err
	}
	s, err := o.shape(r.Kind)
	if err != nil || len(s.containers) == 0 {
		return err
	}
	names := []string{r.Name}
	if r.Kind == "Job" {
		pods, err := c.pods(ctx, r)
		if err != nil {
			return c.explain(err, "looking at the pods of "+c.named(r))
		}
		names = nil
		for _, p := range pods {
			if objectName.MatchString(p.Metadata.Name) {
				names = append(names, p.Metadata.Name)
			}
		}
	}
	for _, pod := range names {
		for _, k := range s.containers {
			if container != "" && container != k.Name {
				continue
			}
			if err := c.log(ctx, pod, k.Name, tail, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// log writes what one container has said: nothing, where it did not start.
func (c *Cluster) log(ctx context.Context, pod, container string, tail int, w io.Writer) error {
	query := url.Values{"container": {container}}
	if tail > 0 {
		query.Set("tailLines", strconv.Itoa(tail))
	}
	said, err := c.send(ctx, http.MethodGet, c.all("Pod")+"/"+pod+"/log?"+query.Encode(), "", nil)
	if isStatus(err, http.StatusBadRequest) {
		return nil // of a pod that is on no node yet, or a container that waits
	}
	if err != nil {
		return c.explain(err, "reading the log of container "+container+" of pod "+c.namespace+"/"+pod)
	}
	_, err = w.Write(said)
	return err
}
