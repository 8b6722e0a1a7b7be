package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cloister/internal/fault"
	"cloister/policy/template"
	"cloister/prep/provision"
)

// What a person needs to do all this, as Azure names it.
const (
	groupRole = "Azure Container Instances Contributor Role on the resource group, and Managed Identity Operator on each identity that the container group has"
	readRole  = "Reader on the resource group"
)

// groupsVersion is the version of the resource group's own interface.
const groupsVersion = "2021-04-01"

const groupKind = "Microsoft.ContainerInstance/containerGroups"

// groupName is what the service takes for one:
// https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
var groupName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// azure keeps container groups in a resource group.
type azure struct {
	client *provision.Client
	group  string // the resource group's id
}

// InAzure returns the room of container groups in a resource group. location is
// where they are made: "" is the resource group's.
func InAzure(ctx context.Context, client *provision.Client, group, location string, t template.Template) (*Room, error) {
	if group == "" || strings.ContainsAny(group, "/?#%") {
		return nil, fault.Errorf(fault.Usage, "give the name alone", "%.80q is not the name of a resource group", group)
	}
	a := azure{client, "/subscriptions/" + client.Subscription() + "/resourceGroups/" + group}
	if location == "" {
		var found struct {
			Location string `json:"location"`
		}
		if err := client.Manage(ctx, http.MethodGet, a.group, groupsVersion, nil, &found); err != nil {
			return nil, provision.Explain(err, "looking for the resource group "+a.group, readRole)
		}
		location = found.Location
	}
	resources, err := t.Resources(location)
	for _, r := range resources {
		if r.Kind != groupKind || !groupName.MatchString(r.Name) {
			return nil, fault.Errorf(fault.Usage, "generate it again with `cloister deploy template`", "the template has a %.80q %.80q, which is none of a clean room's", r.Kind, r.Name)
		}
	}
	return &Room{platform: a, resources: resources, Pause: 2 * time.Second}, err
}

func (a azure) id(r template.Resource) string { return a.group + "/providers/" + r.Kind + "/" + r.Name }

// armGroup is a container group as far as it is looked at.
type armGroup struct {
	Properties struct {
		ProvisioningState string `json:"provisioningState"`
		Confidential      struct {
			Policy string `json:"ccePolicy"`
		} `json:"confidentialComputeProperties"`
		Containers []struct {
			Name       string `json:"name"`
			Properties struct {
				Image     string      `json:"image"`
				Command   []string    `json:"command"`
				Variables []nameValue `json:"environmentVariables"`
				View      struct {
					RestartCount int `json:"restartCount"`
					CurrentState struct {
						State        string `json:"state"`
						ExitCode     *int   `json:"exitCode"`
						DetailStatus string `json:"detailStatus"`
					} `json:"currentState"`
					Events []armEvent `json:"events"`
				} `json:"instanceView"`
			} `json:"properties"`
		} `json:"containers"`
		View struct {
			State  string     `json:"state"`
			Events []armEvent `json:"events"`
		} `json:"instanceView"`
	} `json:"properties"`
}

type armEvent struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

func (g armGroup) shape() shape {
	s := shape{policy: g.Properties.Confidential.Policy}
	for _, c := range g.Properties.Containers {
		s.containers = append(s.containers, started{c.Name, c.Properties.Image, c.Properties.Command, c.Properties.Variables})
	}
	return s
}

func (a azure) look(ctx context.Context, r template.Resource) (Unit, error) {
	u := Unit{Kind: "container group", Name: a.id(r), State: Missing}
	var have, want armGroup
	err := a.client.Manage(ctx, http.MethodGet, u.Name, r.APIVersion, nil, &have)
	if provision.IsNotFound(err) {
		return u, nil
	}
	if err != nil {
		return u, explain(err, "looking at the container group "+u.Name, readRole)
	}
	if err := recode(r.Body, &want); err != nil {
		return u, err
	}
	u.Containers = have.containers()
	u.State, u.Detail = have.state()
	if differ := want.shape().differences(have.shape()); differ != "" {
		u.State, u.Detail = Differs, differ
	}
	return u, nil
}

// state: the group's own word where it has one, once it was provisioned.
func (g armGroup) state() (state, detail string) {
	p := g.Properties
	switch p.ProvisioningState {
	case "Succeeded":
	case "Failed", "Canceled", "Unhealthy":
		return Failed, g.warnings()
	case "Deleting":
		return Deleting, ""
	default:
		return Pending, g.warnings()
	}
	known := map[string]string{"Running": Running, "Succeeded": Succeeded, "Failed": Failed, "Stopped": Stopped, "Terminated": Stopped}
	if state, ok := known[p.View.State]; ok {
		return state, g.warnings()
	}
	return Pending, g.warnings()
}

// warnings are the last messages of the platform that are none of everyday.
func (g armGroup) warnings() string {
	var list []string
	add := func(events []armEvent) {
		for _, e := range events {
			if e.Type != "Normal" || len(events) == 1 {
				list = append(list, fmt.Sprintf("%.300s", e.Message))
			}
		}
	}
	add(g.Properties.View.Events)
	for _, c := range g.Properties.Containers {
		add(c.Properties.View.Events)
	}
	return strings.Join(list[max(0, len(list)-3):], "; ")
}

func (g armGroup) containers() (list []Container) {
	for _, c := range g.Properties.Containers {
		now := c.Properties.View.CurrentState
		list = append(list, Container{Name: c.Name, State: strings.ToLower(now.State), Exit: now.ExitCode, Restarts: c.Properties.View.RestartCount, Detail: now.DetailStatus})
	}
	return list
}

func (a azure) make(ctx context.Context, r template.Resource) error {
	err := a.client.Manage(ctx, http.MethodPut, a.id(r), r.APIVersion, r.Body, nil)
	return explain(err, "making the container group "+a.id(r), groupRole)
}

func (a azure) take(ctx context.Context, r template.Resource) error {
	err := a.client.Manage(ctx, http.MethodDelete, a.id(r), r.APIVersion, nil, nil)
	if provision.IsNotFound(err) {
		return nil
	}
	return explain(err, "deleting the container group "+a.id(r), groupRole)
}

func (a azure) logs(ctx context.Context, r template.Resource, container string, tail int, w io.Writer) error {
	var g armGroup
	if err := recode(r.Body, &g); err != nil {
		return err
	}
	for _, c := range g.Properties.Containers {
		if container != "" && c.Name != container {
			continue
		}
		var log struct {
			Content string `json:"content"`
		}
		query := ""
		if tail > 0 {
			query = "&tail=" + strconv.Itoa(tail)
		}
		at := a.id(r) + "/containers/" + url.PathEscape(c.Name) + "/logs"
		if err := a.client.Manage(ctx, http.MethodGet, at, r.APIVersion+query, nil, &log); err != nil {
			return explain(err, "reading the logs of container "+c.Name+" of "+a.id(r), groupRole)
		}
		if _, err := io.WriteString(w, log.Content); err != nil {
			return err
		}
	}
	return nil
}
