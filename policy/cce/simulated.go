package cce

import (
	"bytes"
	"fmt"

	"cloister/policy/spec"
)

// simulated writes the policy of the software platform. It can never pass for
// a real one, nor a real one for it: it is in another Rego package, so the
// platform's framework finds no enforcement point in it and refuses
// everything; it declares no framework; and it names the hash of a file where
// a real policy has layers. HostData of the two therefore never agree, and the
// key release policy for one is never met by the other for further reasons
// (see release.New).
//
// The hash is cloisterd's alone. A real policy's layers have cloister-rego in them
// too; here one hash is enough, as it guards nothing: the simulated processor
// reports whatever HostData it is told and measures no file, so that this line
// says which runtime was meant, and is held against nothing.
func simulated(s spec.Specification, command []string) []byte {
	process := map[string]any{
		"command":               command,
		"name":                  s.Application.Name,
		"runtime_binary_sha256": s.Runtime.Binary,
	}
	var b bytes.Buffer
	b.WriteString("# Simulated platform: for development only. It protects nothing, and no\n")
	b.WriteString("# confidential platform starts anything under this policy.\n")
	b.WriteString("package cloister_simulated\n\n")
	fmt.Fprintf(&b, "simulated := true\n\nprocess := %s\n", encodeIndented(process))
	return b.Bytes()
}

// simulatedContainers is the runtime, as the software platform starts it: a file by
// its hash stands where a container has an image.
func simulatedContainers(s spec.Specification) ([]Container, error) {
	command, err := Command(s)
	return []Container{container(Container{
		AllowElevated: true, Command: command, ID: "cloisterd@" + s.Runtime.Binary, Name: s.Application.Name,
		User: User{Groups: anyone, Umask: umask, User: IDName{"0", matchID}},
	})}, err
}
