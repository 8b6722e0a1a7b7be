package remote

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"cloister/governance"
	"cloister/governance/statement"
	"cloister/governance/tiles"
	"cloister/internal/fault"
)

// Parse reads a log's address: its URL; after ",ca=", a file of certificates in PEM
// that are believed for it instead of the system's; and after ",platform=" whose
// evidence is believed of a ledger that is to be attested.
func Parse(address string) (Options, error) {
	address, platform, _ := strings.Cut(address, ",platform=")
	url, ca, given := strings.Cut(address, ",ca=")
	o := Options{URL: url, Platform: platform}
	if !given {
		return o, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return o, fault.Errorf(fault.NotFound, "name the file that the ledger's certificate is in", "the ledger's certificates: %w", err)
	}
	if o.Roots = x509.NewCertPool(); !o.Roots.AppendCertsFromPEM(pem) {
		return o, fault.Errorf(fault.Usage, "name a file of certificates in PEM", "%s holds no certificate", ca)
	}
	return o, nil
}

// Open returns the log at an address that Parse reads. signer is who reads, or nil.
func Open(address string, signer statement.Signer) (*Log, error) {
	o, err := Parse(address)
	if err != nil {
		return nil, err
	}
	o.Signer = signer
	return New(o)
}

// Keyed is a log that says which key it has.
type Keyed interface {
	governance.Log
	Key(ctx context.Context) (string, error)
}

// Find returns the log at an address, or in a directory, which can be read only.
func Find(where string, signer statement.Signer) (Keyed, error) {
	if strings.Contains(where, "://") {
		return Open(where, signer)
	}
	return directory{tiles.NewReader(tiles.Dir(where).Fetch), tiles.Dir(where)}, nil
}

type directory struct {
	*tiles.Reader
	dir tiles.Dir
}

func (d directory) Key(context.Context) (string, error) { return d.dir.Key() }

func (d directory) Append(context.Context, ...[]byte) (governance.Receipt, error) {
	return governance.Receipt{}, fault.Errorf(fault.Usage, "start cloister-ledger serve, and give its URL", "to append to the ledger in %s, a server is needed", string(d.dir))
}

// Probe verifies a log by a new view; it writes nothing, and returns what the log comes
// to, in words.
func Probe(ctx context.Context, log governance.Source, view *governance.View) (string, error) {
	if err := view.AdvanceToNewest(ctx, log, nil); err != nil {
		return "", err
	}
	contract, digest := view.State().Contract()
	if digest == "" {
		return "it is in order, and nothing has been proposed yet", nil
	}
	return fmt.Sprintf("contract %s version %d is %s, %s", contract.ID, contract.Version, view.State().Status(), digest), nil
}

// ProbeCheckpoint is Probe for who may not read: it verifies the newest checkpoint
// alone.
func ProbeCheckpoint(ctx context.Context, log governance.Source, key string, witnesses governance.Witnesses) (string, error) {
	signed, err := log.Checkpoint(ctx)
	if err != nil {
		return "", err
	}
	at, err := governance.OpenCheckpoint(signed, key)
	if err == nil {
		_, err = witnesses.Cosigned(signed)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("its checkpoint of %d entries is in order; its record is read by evidence, which there is none of here", at.Size), nil
}
