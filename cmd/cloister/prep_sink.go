package main

import (
	"fmt"
	"io"

	"cloister/fs/format"
	"cloister/internal/fault"
	"cloister/policy/spec"

	urfave "github.com/urfave/cli/v2"
)

// prepSinkCommand names an output volume before it exists: the specification
// needs its id, and the contract pins its DEK.
func prepSinkCommand() *urfave.Command {
	return &urfave.Command{
		Name:        "sink",
		Usage:       "name a new output volume; prints VOLUME_ID:KEY_VERSION:CHECK_VALUE for the contract",
		Description: "Makes nothing: the clean room makes the volume. JSON: volume, key_version, check.",
		Flags: append(keyFlags(),
			&urfave.StringFlag{Name: "volume", Usage: "the `ID` of the volume, 32 hexadecimal digits (default: a random one)"},
			&urfave.Uint64Flag{Name: "replicas", Usage: "with --volume, the specification's datasink: a line for each of `HOW MANY` replicas, from 0"},
			keyVersionFlag(),
			jsonFlag(),
		),
		Action: action(func(c *urfave.Context, _ []string) error {
			replicas, err := number(c, "replicas")
			if err != nil {
				return err
			}
			if replicas > spec.MaxReplicas {
				return fault.Errorf(fault.Usage, fmt.Sprintf("use at most %d", spec.MaxReplicas), "--replicas %d are more than a specification may have", replicas)
			}
			if replicas > 0 && c.String("volume") == "" {
				return fault.Errorf(fault.Usage, "give --volume ID, as the specification has it", "--replicas without --volume: the replicas' volumes are derived from the datasink's")
			}
			id := format.NewVolumeID()
			if text := c.String("volume"); text != "" {
				if id, err = format.ParseVolumeID(text); err != nil {
					return fault.Errorf(fault.Usage, "leave --volume out for a new one", "--volume: %w", err)
				}
			}
			root, err := readKey(c)
			if err != nil {
				return err
			}
			defer root.Destroy()
			version, err := keyVersion(c)
			if err != nil {
				return err
			}
			if replicas > 0 {
				return printReplicas(c, root, id, version, replicas)
			}
			r := sinkOf(root, id, version)
			return printResult(c, r, func(stdout, _ io.Writer) { fmt.Fprintln(stdout, r) })
		}),
	}
}

// sink is what a contract pins of an output volume that is not there yet.
type sink struct {
	Volume     string `json:"volume"`
	KeyVersion uint32 `json:"key_version"`
	Check      string `json:"check"`
}

// String is the form that the contract takes.
func (s sink) String() string { return fmt.Sprintf("%s:%d:%s", s.Volume, s.KeyVersion, s.Check) }

func sinkOf(root *format.RootSecret, id format.VolumeID, version uint32) sink {
	dek := root.DeriveDEK(id, version)
	defer dek.Destroy()
	return sink{id.String(), version, dek.Check(id).String()}
}

func printReplicas(c *urfave.Context, root *format.RootSecret, datasink format.VolumeID, version, replicas uint32) error {
	var all []sink
	for index := range replicas {
		id, err := format.ParseVolumeID(spec.ReplicaVolume(datasink.String(), index))
		if err != nil {
			return err
		}
		all = append(all, sinkOf(root, id, version))
	}
	return printResult(c, all, func(stdout, _ io.Writer) {
		for _, r := range all {
			fmt.Fprintln(stdout, r)
		}
	})
}
