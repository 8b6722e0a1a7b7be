package launch

import (
	"errors"
	"os"
	"testing"
)

// exchanged runs a script with an exchange, which is open after its end.
func exchanged(t *testing.T, script string) (*Exchanged, string) {
	t.Helper()
	var got *Exchanged
	a := shell(script)
	a.Exchange = &Exchange{Files: map[string][]byte{"parameters": []byte("seven\n")}, Size: 64 << 10, Opened: func(x *Exchanged) { got = x }}
	out, exit := output(t, a)
	if exit != 0 || got == nil {
		t.Fatalf("exit code %d, %q", exit, out)
	}
	t.Cleanup(func() { got.Close() })
	return got, out
}

// TestExchange: plain files there and back, in the directory the application starts
// in, and still there when it and its file systems are gone.
func TestExchange(t *testing.T) {
	x, out := exchanged(t, `pwd; cat parameters; echo eight > result; { echo x > /dev/other; } 2>/dev/null || echo kept`)
	if out != ExchangeDir+"\nseven\nkept\n" {
		t.Errorf("the application says %q", out)
	}
	if got, err := x.Read("result", 6); string(got) != "eight\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := x.Read("result", 5); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file of more bytes: %v", err)
	}
	if _, err := x.Read("nothing", 5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestExchangeOfHostile: what is no plain file of the directory is not read, and
// what does not fit is the application's error.
func TestExchangeOfHostile(t *testing.T) {
	x, out := exchanged(t, `ln -s /etc/passwd link; ln -s . up; mkdir dir; mkfifo pipe; ln -s /proc/1/fd fd
head -c 1000000 /dev/zero > large 2>/dev/null || echo full; echo ok`)
	if out != "full\nok\n" {
		t.Errorf("the application says %q", out)
	}
	for _, name := range []string{"link", "up/large", "dir", "pipe", "fd/1", "..", "../null", "/etc/passwd"} {
		if got, err := x.Read(name, 1<<20); err == nil {
			t.Errorf("%s is read: %.40q", name, got)
		}
	}
	if got, err := x.Read("large", 1<<20); err != nil || len(got) == 0 || len(got) > 64<<10 {
		t.Errorf("%d bytes fit, %v", len(got), err)
	}
}

// TestExchangeOfOneThatCannotStart: there is nothing to take, and nobody waits.
func TestExchangeOfOneThatCannotStart(t *testing.T) {
	a := shell("")
	a.Command = []string{"/no/such/program"}
	a.Exchange = &Exchange{Size: 1 << 10, Opened: func(x *Exchanged) { x.Close() }}
	if _, err := Run(t.Context(), a); err == nil {
		t.Error("it runs")
	}
}
