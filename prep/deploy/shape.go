package deploy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// shape is what decides whether a resource is a deployment's: the container policy,
// to which HOST_DATA is bound, and what is started under it. A platform shows these
// as they were sent; of the rest it rewrites much.
type shape struct {
	policy     string // base64
	containers []started
	added      bool // the platform adds variables of its own
}

type started struct {
	Name, Image string
	Command     []string
	Variables   []nameValue
}

type nameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// differences names what differs, in words.
func (want shape) differences(have shape) string {
	var list []string
	if want.policy != have.policy {
		list = append(list, "it has another container policy")
	}
	for _, w := range want.containers {
		i := slices.IndexFunc(have.containers, func(h started) bool { return h.Name == w.Name })
		if i < 0 {
			list = append(list, fmt.Sprintf("it has no container %s", w.Name))
			continue
		}
		list = append(list, w.differences(have.containers[i], have.added)...)
	}
	if len(have.containers) > len(want.containers) {
		list = append(list, fmt.Sprintf("it has %d containers, not %d", len(have.containers), len(want.containers)))
	}
	return strings.Join(list, "; ")
}

func (want started) differences(have started, added bool) (list []string) {
	if want.Image != have.Image {
		list = append(list, fmt.Sprintf("container %s has image %.200q", want.Name, have.Image))
	}
	if !slices.Equal(want.Command, have.Command) {
		list = append(list, fmt.Sprintf("container %s has another command", want.Name))
	}
	for _, v := range want.Variables {
		if !slices.Contains(have.Variables, v) {
			list = append(list, fmt.Sprintf("container %s has another %s", want.Name, v.Name))
		}
	}
	if !added && len(have.Variables) > len(want.Variables) {
		list = append(list, fmt.Sprintf("container %s has %d variables, not %d", want.Name, len(have.Variables), len(want.Variables)))
	}
	return list
}

// recode reads a JSON value into a struct of the fields that are looked at.
func recode(v, into any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}
