//go:build linux

package shim

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cloister/enclave/sidecar"
)

// attached is a runtime that this shim is connected to, and whose mounts are
// here.
type attached struct {
	conn   *sidecar.Conn
	run    string
	told   []string // of the environment
	mounts *mountWatch

	starts chan sidecar.Message // that the runtime wants, each with its files
	goes   chan struct{}        // they may now

	// toApplication carries signals to the application, from whoever wants it to
	// end: the platform, the runtime, or this shim.
	toApplication chan os.Signal
	terminated    atomic.Bool   // the platform wants the container to end
	done          chan struct{} // closed when the runtime has said that the run is done
	gone          chan struct{} // closed when the runtime is not there any more
	lost          chan struct{} // closed when one of the mounts is not there any more
	left          chan struct{} // closed by close
	leave         func()
}

func newAttached(conn *sidecar.Conn, said sidecar.Message) *attached {
	r := &attached{conn: conn, run: said.Run, told: said.Replica.Environment(), toApplication: make(chan os.Signal, queue),
		starts: make(chan sidecar.Message), goes: make(chan struct{}),
		done: make(chan struct{}), gone: make(chan struct{}), lost: make(chan struct{}), left: make(chan struct{})}
	r.leave = sync.OnceFunc(func() { close(r.left) })
	return r
}

// watch begins to pass on what the application is to be told.
func (r *attached) watch(signals <-chan os.Signal) {
	go r.relay(signals)
	go r.obey()
	go func() {
		if r.mounts.wait() {
			close(r.lost)
			r.tell(syscall.SIGKILL)
		}
	}()
}

func (r *attached) tell(s os.Signal) {
	select {
	case r.toApplication <- s:
	case <-r.left:
	}
}

// relay passes on the container's signals.
func (r *attached) relay(signals <-chan os.Signal) {
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM {
				r.terminated.Store(true)
			}
			r.tell(s)
		case <-r.left:
			return
		}
	}
}

// obey does what the runtime says, until it is gone, which ends the application
// at once: nobody answers its mounts any more.
func (r *attached) obey() {
	for {
		m, err := r.conn.Receive()
		switch {
		case err != nil:
			close(r.gone)
			r.tell(syscall.SIGKILL)
			return
		case m.Done:
			close(r.done)
			return
		case m.Start != nil:
			if !pass(r, r.starts, m) {
				closeAll(m.Files)
			}
		case m.Go:
			pass(r, r.goes, struct{}{})
		case m.End:
			r.tell(syscall.SIGTERM)
			time.AfterFunc(m.Grace, func() { r.tell(syscall.SIGKILL) })
		}
	}
}

// pass hands something to who awaits it, unless nobody will.
func pass[T any](r *attached, to chan<- T, what T) bool {
	select {
	case to <- what:
		return true
	case <-r.left:
		return false
	}
}

// report says how the application ended.
func (r *attached) report(exit int) {
	_ = r.conn.Send(sidecar.Message{Exit: &exit}) // a broken connection is seen by obey
}

// refuse says why the application is not started.
func (r *attached) refuse(why error) {
	_ = r.conn.Send(sidecar.Message{Refused: why.Error()})
}

func (r *attached) close() {
	r.leave()
	r.mounts.stop()
	r.conn.Close()
}
