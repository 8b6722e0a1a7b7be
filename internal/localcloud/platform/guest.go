package platform

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cloister/internal/fault"
	"cloister/internal/localcloud/wire"

	"github.com/google/go-sev-guest/abi"
)

// Files of a guest's directory. The first is the processor; the next three are
// the container platform's security context; the last three say what to trust.
const (
	SocketFile       = "sev-guest.sock"
	PolicyFile       = "security-policy-base64"
	CertificatesFile = "host-amd-cert-base64"
	EndorsementFile  = "reference-info-base64"
	RootFile         = "amd-root.pem"
	IssuerFile       = "uvm-issuer"
	RevocationFile   = "amd-crl.der"
)

// GuestConfig says what guest to launch. With only Policy set it is a good one;
// each other field makes it bad in one way.
type GuestConfig struct {
	// Policy is the container policy's text. The host fixes host data to its
	// SHA-256 at launch.
	Policy []byte `json:"policy"`
	// Debug lets the host read the guest's memory (guest policy bit 19).
	Debug bool `json:"debug,omitempty"`
	// Migration lets a migration agent have the guest (guest policy bit 18).
	Migration bool `json:"migration,omitempty"`
	// VMPL is the privilege level asked for: 0 good, 2 a lesser one, 0xFFFFFFFF
	// a report the host asked for.
	VMPL uint32 `json:"vmpl,omitempty"`
	// WrongHostData launches under another policy than the directory shows.
	WrongHostData bool `json:"wrongHostData,omitempty"`
	// WrongMeasurement runs a utility VM that nobody endorsed.
	WrongMeasurement bool `json:"wrongMeasurement,omitempty"`
	// OldTCB is a processor with old firmware, and a certificate that says so.
	OldTCB bool `json:"oldTCB,omitempty"`
	// StaleCertificates leaves the certificate of an older TCB in the directory.
	StaleCertificates bool `json:"staleCertificates,omitempty"`
	// LowSVN endorses the utility VM at a security version of long ago.
	LowSVN bool `json:"lowSVN,omitempty"`
	// Replay answers every request with the report over 64 zero bytes.
	Replay bool `json:"replay,omitempty"`
	// Revoked puts the chain's intermediate on the directory's revocation list.
	Revoked bool `json:"revoked,omitempty"`
	// VM makes it a confidential VM's report: host data is zero, whatever the
	// policy. The TPM that goes with it is not played here.
	VM bool `json:"vm,omitempty"`
	// ReportVersion is the report's layout, 2 to 5; 0 means 3.
	ReportVersion uint32 `json:"reportVersion,omitempty"`
}

// Guest is a launched guest. It lives until Close.
type Guest struct {
	// Dir is its directory.
	Dir    string
	server *http.Server
	served chan struct{} // closed when server has ended
}

// Close stops answering and removes the socket. The other files stay: they hold
// nothing secret, and a later Launch replaces them.
func (g *Guest) Close() error {
	err := g.server.Close()
	// A Serve that had not begun closes the listener, and with it removes the
	// socket's name, only when it ends: by then another guest may have it.
	<-g.served
	if rmErr := os.Remove(filepath.Join(g.Dir, SocketFile)); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// Launch starts a guest whose directory is dir, made if it is not there. Errors
// are of kind fault.Usage where config or dir cannot be, fault.Conflict where
// another guest answers there.
func (p *Platform) Launch(dir string, config GuestConfig) (*Guest, error) {
	socket := filepath.Join(dir, SocketFile)
	if len(config.Policy) == 0 {
		return nil, fault.Errorf(fault.Usage, "give it the container policy's text", "launching a simulated guest: the policy is empty")
	}
	if v := config.ReportVersion; v != 0 && (v < abi.MinSupportedReportVersion || v > abi.MaxSupportedReportVersion) {
		return nil, fault.Errorf(fault.Usage, "", "launching a simulated guest: no report version %d", v)
	}
	l, err := newLaunch(config)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// The socket comes first: whoever holds it has the directory.
	listener, err := wire.ListenUnix(socket)
	if err != nil {
		return nil, err
	}
	if err := p.writeContext(dir, config, l); err != nil {
		listener.Close()
		return nil, err
	}
	g := &Guest{Dir: dir, served: make(chan struct{}), server: &http.Server{Handler: p.handler(config, l), ReadHeaderTimeout: 10 * time.Second}}
	go func() {
		g.server.Serve(listener) //nolint:errcheck // ends with Close
		close(g.served)
	}()
	return g, nil
}

// handler answers POST /report: 64 bytes of REPORT_DATA for a report.
func (p *Platform) handler(config GuestConfig, l launch) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /report", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, abi.ReportDataSize+1))
		if err != nil || len(body) != abi.ReportDataSize {
			http.Error(w, "simulated processor: the body must be the 64 bytes of REPORT_DATA", http.StatusBadRequest)
			return
		}
		var data [abi.ReportDataSize]byte
		if !config.Replay {
			copy(data[:], body)
		}
		report, err := p.chain.report(l, data)
		if err != nil {
			http.Error(w, "simulated processor: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set(wire.SimulatedClaim, "true")
		w.Write(report) //nolint:errcheck // the guest is gone
	})
	return mux
}

// thim is the host's certificate answer, as the platform's metadata service and
// the security context both write it.
type thim struct {
	VCEK         string `json:"vcekCert"`
	TCB          string `json:"tcbm"`
	Chain        string `json:"certificateChain"`
	CacheControl string `json:"cacheControl"`
}

func (p *Platform) writeContext(dir string, config GuestConfig, l launch) error {
	certificates, err := p.certificates(config, l)
	if err != nil {
		return err
	}
	svn := goodUVMSVN
	if config.LowSVN {
		svn = lowUVMSVN
	}
	measurement := Measurement()
	endorsement, err := p.endorser.endorse(measurement[:], svn)
	if err != nil {
		return err
	}
	if err := p.writeTrust(dir, config.Revoked, guestMode); err != nil {
		return err
	}
	return writeAll(dir, guestMode, map[string][]byte{PolicyFile: encode(config.Policy), CertificatesFile: encode(certificates), EndorsementFile: encode(endorsement)})
}

// WriteTrust writes into a directory whom to believe about the platform, for who
// judges evidence and is no guest: the directory's owner.
func (p *Platform) WriteTrust(dir string) error { return p.writeTrust(dir, false, 0o600) }

func (p *Platform) writeTrust(dir string, revoked bool, mode os.FileMode) error {
	crl, err := p.chain.crl(revoked)
	if err != nil {
		return err
	}
	return writeAll(dir, mode, map[string][]byte{RootFile: p.Root(), IssuerFile: []byte(p.Issuer() + "\n"), RevocationFile: crl})
}

// guestMode: readable by all, since the guest's own user is not the host's.
const guestMode = 0o644

func writeAll(dir string, mode os.FileMode, files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
			return err
		}
	}
	return nil
}

func (p *Platform) certificates(config GuestConfig, l launch) ([]byte, error) {
	if config.StaleCertificates {
		stale, err := newLaunch(GuestConfig{OldTCB: true})
		if err != nil {
			return nil, err
		}
		l.tcb = stale.tcb
	}
	vcek, err := p.chain.vcek(l.tcb)
	if err != nil {
		return nil, err
	}
	return json.Marshal(thim{
		VCEK:         string(wire.EncodePEM(vcek)),
		TCB:          hexTCB(l.tcb),
		Chain:        string(wire.EncodePEM(p.chain.ask, p.chain.ark)),
		CacheControl: "86400",
	})
}

func encode(data []byte) []byte {
	return base64.StdEncoding.AppendEncode(nil, data)
}
