package replica

import (
	"crypto/ed25519"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/view"
)

func TestAlarmOfAFullDisk(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := &diskGuard{dir: t.TempDir(), minMB: 1 << 40, alarms: alarm.NewSet(slog.New(slog.NewTextHandler(&out, nil)))}
	d.check()
	d.check()
	if n := strings.Count(out.String(), alarm.DiskFull.Text); n != 1 || d.Err() == nil {
		t.Errorf("logged %d times:\n%s", n, &out)
	}
	d.minMB = 0
	d.check()
	d.check()
	if n := strings.Count(out.String(), alarm.DiskFull.End); n != 1 || d.Err() != nil {
		t.Errorf("%d ends:\n%s", n, &out)
	}
}

// An unknown key is an alarm until nothing that is served is signed by it.
func TestAlarmOfAnUnknownSigner(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	s := &Supervisor{alarms: newAlarms(log), o: Options{View: documents.NewView(documents.NewSecrets(documents.SecretsOptions{Logger: log}))}}
	show := func(index uint64, key string) {
		s.o.View.Reset(view.SourceReplica, "epoch", index, []*conf.Record{{Service: "a", Version: index, Epoch: "epoch", Index: index, Config: []byte("{}"), KeyID: key}})
	}
	known := map[string]ed25519.PublicKey{"known": make(ed25519.PublicKey, ed25519.PublicKeySize)}
	show(1, "strange")
	for range 2 {
		s.alarms.reportSigners(map[string]string{"strange": "a"})
		s.checkSigners(known)
	}
	if n := strings.Count(out.String(), alarm.UnknownSigner.Text); n != 1 || strings.Contains(out.String(), alarm.UnknownSigner.End) {
		t.Errorf("logged %d times:\n%s", n, &out)
	}
	show(2, "known")
	s.checkSigners(known)
	s.alarms.reportSigners(nil)
	if n := strings.Count(out.String(), alarm.UnknownSigner.End); n != 1 {
		t.Errorf("%d ends:\n%s", n, &out)
	}
}
