package fallback

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/replication/alarm"
)

// broken is a listener that fails.
type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, errors.New("broken") }

func TestAlarmOfAPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	f := &server{log: log, alarms: alarm.NewSet(log), opened: map[net.Listener]bool{}}
	f.adminTLS = func() (*tls.Config, error) { return nil, errors.New("damaged") }
	if f.local, err = localapi.New(localapi.Options{Source: f.provider}); err != nil {
		t.Fatal(err)
	}
	f.serve(&process.Held{Local: broken{l}, Admin: l})
	f.serving.Wait()
	f.alarms.Only("")
	_ = f.local.Stop(context.Background())
	got := out.String()
	if strings.Count(got, alarm.PortNotServed.Text) != 1 || strings.Count(got, alarm.AdminUnserved.Text) != 1 || strings.Count(got, alarm.PortNotServed.End) != 2 {
		t.Errorf("the log: %s", got)
	}
}
