package localapi

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/testenv/base"
)

// On a real socket, with a real caller: secrets go to the right uid on the unix socket and to
// nobody on TCP, with the same bytes as without the front, and both note what was read.
func TestFrontOnSockets(t *testing.T) {
	t.Parallel()
	p := newTwoPaths(t)
	stream := "GET /v1/config/vault" + plainEnd + "HEAD /v1/config/large" + plainEnd + "GET /v1/config/large" + plainEnd + "GET /v1/config/vault HTTP/1.1\r\nHost: evil.example\r\n\r\n" +
		"GET /v1/config/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	for _, network := range []string{"tcp", "unix"} {
		var out [2][]byte
		for i, s := range p.servers {
			addr := "127.0.0.1:0"
			if network == "unix" {
				addr = filepath.Join(t.TempDir(), "s")
			}
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			serving := make(chan error, 1)
			go func() { serving <- s.Serve(l) }()
			defer func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				<-serving
			}()
			c, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close() //nolint:errcheck // read to its end
			_ = c.SetDeadline(time.Now().Add(base.Patience))
			if _, err := io.WriteString(c, stream); err != nil {
				t.Fatal(err)
			}
			if out[i], err = io.ReadAll(c); err != nil {
				t.Fatal(err)
			}
			if out[i], err = maskDates(out[i]); err != nil {
				t.Fatal(err)
			}
			if got, want := p.reads(i), "a [\"\"]\ngone []\nlarge [\"\"]\nstt-worker []\nunset []\nvault [\"\"]\n"; got != want {
				t.Errorf("%s, server %d: noted as read:\n%s", network, i, got)
			}
		}
		if !bytes.Equal(out[0], out[1]) {
			t.Errorf("%s: not the same\nnet/http: %.1000q\nfront:    %.1000q", network, out[0], out[1])
		}
		secret := strings.Contains(string(out[1]), "hunter2") && strings.Contains(string(out[1]), "no-store")
		if secret != (network == "unix") {
			t.Errorf("%s: secrets are served: %t", network, secret)
		}
	}
}
