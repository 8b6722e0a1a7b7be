package proxy

import (
	"io"
	"net"
	"sync"
	"time"
)

// spliceIdleTime is how long nothing may pass either way between two ends whose
// bytes nobody reads: nginx's for its streams (proxy_timeout).
const spliceIdleTime = 10 * time.Minute

// splice passes bytes both ways until both ways have ended, one breaks, or nothing
// has passed either way for a while.
func splice(a, b net.Conn, idle time.Duration) {
	over := time.Unix(1, 0)
	timer := time.AfterFunc(idle, func() { _ = a.SetDeadline(over); _ = b.SetDeadline(over) })
	defer timer.Stop()
	var both sync.WaitGroup
	copyTo := func(to, from net.Conn) {
		_, err := io.Copy(passing{to, timer, idle}, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
		} else {
			_ = to.Close()
		}
		if err != nil {
			_ = from.SetDeadline(over)
			_ = to.SetDeadline(over)
		}
	}
	both.Go(func() { copyTo(a, b) })
	both.Go(func() { copyTo(b, a) })
	both.Wait()
}

// passing puts the end off with what passes.
type passing struct {
	io.Writer
	timer *time.Timer
	idle  time.Duration
}

func (p passing) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	p.timer.Reset(p.idle)
	return n, err
}
