package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"cloister/governance"
	"cloister/governance/page"
	"cloister/internal/fault"

	urfave "github.com/urfave/cli/v2"
)

// auditPageCommand serves the page from the party's own machine, so that its
// scripts are not those of the ledger that they judge.
func auditPageCommand() *urfave.Command {
	return &urfave.Command{
		Name: "page", Usage: "show the contract and its record in a browser on this machine, until a signal",
		Flags: auditFlags(&urfave.IntFlag{Name: "port", Usage: "the `PORT` on the loopback address; 0 takes a free one"}),
		Action: action(func(c *urfave.Context, _ []string) error {
			log, key, witnesses, done, err := auditLog(c)
			defer done()
			if err != nil {
				return err
			}
			_, was, err := recall(c, key)
			if err != nil {
				return err
			}
			shown := &cosigned{log, key, witnesses, was}
			if _, err := shown.Checkpoint(c.Context); err != nil {
				return err
			}
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.Int("port")))
			if err != nil {
				return fmt.Errorf("serving the page: %w", err)
			}
			fmt.Fprintf(c.App.Writer, "ready http://%s/page/#key=%s\n", l.Addr(), url.QueryEscape(key))
			return servePage(c.Context, l, page.Local(shown))
		}, "--ledger"),
	}
}

// cosigned shows the page only checkpoints that the specification's witnesses
// cosigned, of no less than was seen before; the rest it checks itself.
type cosigned struct {
	governance.Source
	key       string
	witnesses governance.Witnesses
	was       []byte
}

func (s *cosigned) Checkpoint(ctx context.Context) ([]byte, error) {
	signed, err := s.Source.Checkpoint(ctx)
	if err == nil {
		_, err = s.witnesses.Cosigned(signed)
	}
	if err == nil && s.was != nil {
		err = notBefore(s.key, signed, s.was)
	}
	return signed, err
}

// notBefore is what can be said of two checkpoints without the log between them.
func notBefore(key string, signed, was []byte) error {
	before, err := governance.OpenCheckpoint(was, key)
	if err != nil {
		return err
	}
	now, err := governance.OpenCheckpoint(signed, key)
	if err == nil && (now.Size < before.Size || now.Size == before.Size && now.Root != before.Root) {
		err = fault.Errorf(fault.Refused, "keep the ledger's files and its checkpoint: they are the evidence",
			"the ledger shows a log of %d entries after one of %d: it was rolled back, or is another", now.Size, before.Size)
	}
	return err
}

func servePage(ctx context.Context, l net.Listener, handler http.Handler) error {
	// A page of another site whose name was made to mean this address must not
	// read the record: only who asks for the address itself is answered.
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != l.Addr().String() {
			http.Error(w, "this page is for its own address", http.StatusMisdirectedRequest)
			return
		}
		handler.ServeHTTP(w, r)
	})
	server := &http.Server{Handler: own, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
