package agent_test

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent"
	"github.com/holdfast-config/holdfast/agent/fallback"
	"github.com/holdfast-config/holdfast/agent/observer"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/raftguard"
	"github.com/holdfast-config/holdfast/testenv"
)

// A node that stops, and a disk that hangs, are alarms until the replica works again.
func TestAlarmsOfANodeThatStops(t *testing.T) {
	t.Parallel()
	a, log := startLogged(t, testenv.Options(t, nil))
	a.AwaitReady()
	ended := func(k *alarm.Kind, times int) func() bool {
		return func() bool { return log.Has(k.Text) && strings.Count(log.String(), k.End) == times }
	}
	node := a.Rooms().Replicas.Current().Node()
	(*field[*raftguard.Fault](node, "fault")).Trip(errors.New("broken"))
	a.Await("the end of a fault", ended(alarm.ApplyStops, 1))
	a.AwaitReady()

	node = a.Rooms().Replicas.Current().Node()
	disk := *field[*raftguard.DiskMonitor](node, "disk")
	appends := field[struct{ since, worst atomic.Int64 }](disk, "appends")
	a.Await("an append that hangs", func() bool {
		if !log.Has(alarm.AppendHangs.Text) { // an append that ends takes it away
			appends.since.Store(time.Now().Add(-time.Hour).UnixNano())
		}
		return log.Has(alarm.AppendHangs.Text)
	})
	a.Await("its end", ended(alarm.AppendHangs, 2))
}

// A damaged Raft log is an alarm until it was made again.
func TestAlarmOfADamagedLog(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	start(t, o).ready().Stop()
	if err := os.WriteFile(filepath.Join(o.RaftDir(), "raft.db"), []byte(strings.Repeat("damaged ", 8<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	a, log := startLogged(t, o)
	a.AwaitReady()
	a.Await("the alarm and its end", func() bool { return log.Has(alarm.LogDamaged.Text) && log.Has(alarm.LogDamaged.End) })
}

// An agent that cannot start says when it can.
func TestAlarmOfAnAgentThatCannotStart(t *testing.T) {
	t.Parallel()
	o := testenv.Options(t, nil)
	r := start(t, o).ready()
	if code, body := r.set("5"); code != http.StatusOK {
		t.Fatal(body)
	}
	r.Stop()
	var repaired atomic.Bool
	log := testenv.NewTranscript()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- fallback.Run(ctx, fallback.Setup{
			Options: o, Damage: errors.New("a damaged file"), Logger: slog.New(slog.NewTextHandler(log, nil)),
			Resolve: func() (options.Options, error, error) {
				if repaired.Load() {
					return o, nil, nil
				}
				return o, errors.New("a damaged file"), nil
			},
			New: func(ctx context.Context, o options.Options, held *process.Held) (fallback.Runner, error) {
				return agent.NewWith(ctx, o, held, testenv.Logger(t))
			},
		})
	}()
	r.Await("the alarm", func() bool { return log.Has(alarm.CannotStart.Text) })
	repaired.Store(true)
	testenv.Await(t, "its end", func() bool { return log.Has(alarm.CannotStart.End) })
	if strings.Count(log.String(), alarm.CannotStart.Text) != 1 {
		t.Errorf("the log:\n%s", log)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What an observer shows and cannot save is an alarm until it can.
func TestAlarmOfAnObserverWithoutAFile(t *testing.T) {
	t.Parallel()
	member := start(t, testenv.Options(t, nil)).ready()
	o := testenv.Options(t, map[string]string{
		"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo",
		"CONFIG_TRUST":       base64.StdEncoding.EncodeToString(member.Rooms().Keys.Set().Public),
		"CONFIG_OBSERVE_URL": "mqtt://" + member.Rooms().Broker.Addr().String(),
	})
	if err := os.MkdirAll(filepath.Join(o.LKGPath, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	log := testenv.NewTranscript()
	b, err := observer.New(o, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	running := testenv.RunObserver(t, b)
	if code, body := member.set("5"); code != http.StatusOK {
		t.Fatal(body)
	}
	running.Await("the alarm", func() bool { return log.Has(alarm.LKGBehind.Text) })
	if err := os.RemoveAll(o.LKGPath); err != nil {
		t.Fatal(err)
	}
	if code, body := member.set("6"); code != http.StatusOK {
		t.Fatal(body)
	}
	running.Await("its end", func() bool { return log.Has(alarm.LKGBehind.End) })
}
