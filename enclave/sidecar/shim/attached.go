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

	// toApplication carries signals to the application, from whoever wants it to
	// end: the platform, the runtime, or this shim.
	toApplication chan os.Signal
	terminated    atomic.Bool   // the platform wants the container to end
	done          chan struct{} // closed when the runtime has said that the run is done
	gone          chan struct{} // closed when the runtime is not there any more
	left          chan struct{} // closed by close
	leave         func()
}

func newAttached(conn *sidecar.Conn, said sidecar.Message) *attached {
	r := &attached{conn: conn, run: said.Run, told: said.Replica.Environment(), toApplication: make(chan os.Signal, queue),
		done: make(chan struct{}), gone: make(chan struct{}), left: make(chan struct{})}
	r.leave = sync.OnceFunc(func() { close(r.left) })
	return r
}

// watch begins to pass on what the application is to be told, and returns the
// channel on which it comes.
func (r *attached) watch(signals <-chan os.Signal) <-chan os.Signal {
	go r.relay(signals)
	go r.obey()
	go func() {
		if r.mounts.wait() {
			r.tell(syscall.SIGKILL)
		}
	}()
	return r.toApplication
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
		case m.End:
			r.tell(syscall.SIGTERM)
			time.AfterFunc(m.Grace, func() { r.tell(syscall.SIGKILL) })
		}
	}
}

// report says how the application ended, and returns whether the run is done.
func (r *attached) report(exit int) bool {
	_ = r.conn.Send(sidecar.Message{Exit: &exit}) // a broken connection is seen by obey
	select {
	case <-r.done:
		return true
	case <-r.gone:
		return false
	}
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
