package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"cloister/enclave"
	"cloister/enclave/envelope"
	"cloister/fs"
	"cloister/fs/format"
	"cloister/governance/statement"
	"cloister/internal/fault"
	"cloister/policy/spec"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// TestVolumesOfAStageAreMountedTogether: each of three outputs is opened only
// when the others are being opened too; and of several that fail each is named,
// in the plan's order, and nothing of them stays.
func TestVolumesOfAStageAreMountedTogether(t *testing.T) {
	var missing sync.WaitGroup
	missing.Add(3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := &mounts{log: slog.New(slog.DiscardHandler), credential: func(string) (azcore.TokenCredential, error) { return nil, nil }}
	m.head = func(ctx context.Context, volume string) (*fs.Head, error) {
		missing.Done()
		all := make(chan struct{})
		go func() { missing.Wait(); close(all) }()
		select {
		case <-all:
			return nil, fault.Errorf(fault.Refused, "", "the record of %s is not believed", volume)
		case <-ctx.Done():
			return nil, fmt.Errorf("the others did not come: %w", ctx.Err())
		}
	}
	var stage []enclave.Opened
	for _, name := range []string{"zebra", "ant", "mole"} {
		dek, err := envelope.NewDEK(make([]byte, envelope.DEKSize))
		must(t, err)
		id := format.VolumeID{name[0]}
		m.spec.DataSinks = append(m.spec.DataSinks, spec.Sink{Name: name, Store: t.TempDir(), Mount: t.TempDir()})
		m.contract.Volumes = append(m.contract.Volumes, statement.Volume{Name: name, ID: id.String(), KeyVersion: 1, Check: format.CheckValue{}.String()})
		stage = append(stage, enclave.Opened{Name: name, DEK: dek})
	}
	err := m.mount(ctx, stage)
	var want []string
	for _, v := range stage {
		want = append(want, fmt.Sprintf("mounting %[1]s: the record of %[1]s is not believed", v.Name))
	}
	if err == nil || err.Error() != strings.Join(want, "\n") || fault.KindOf(err) != fault.Refused {
		t.Errorf("got %v, want %q", err, want)
	}
	if len(m.open) != 0 {
		t.Errorf("%d volumes stay", len(m.open))
	}
}
