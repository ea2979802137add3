package doors

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// settled is how long a command has to run with a version before it counts as applied.
const settled = 10 * time.Second

// verdict tells the agent what became of each version under a command. Without the local
// token it tells nothing.
type verdict struct {
	client  *client.Client // nil: no token
	service string
	log     *slog.Logger
	runs    atomic.Pointer[conf.Metadata] // that the command has now
}

// note reads which version the command is about to get.
func (v *verdict) note(ctx context.Context) {
	if v.client == nil {
		return
	}
	if doc, err := v.client.Document(ctx, v.service); err == nil {
		v.runs.Store(&doc.Metadata)
	}
}

// watch acknowledges each version that the command stays up with.
func (v *verdict) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var seen *conf.Metadata
	var since time.Time
	told := true
	for {
		if now := v.runs.Load(); now != seen {
			seen, since, told = now, time.Now(), false
		} else if !told && seen != nil && time.Since(since) >= settled {
			told = true
			v.say(ctx, seen, conf.InstanceApplied, "")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ended tells that the command has crashed. One that was told to end has not.
func (v *verdict) ended(ctx context.Context, code int) {
	runs := v.runs.Load()
	if runs == nil || code == 0 {
		return
	}
	reason := fmt.Sprintf("the command ended with exit code %d", code)
	if code > 128 {
		sig := syscall.Signal(code - 128)
		switch sig {
		case syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL:
			return
		}
		reason = fmt.Sprintf("the command ended by signal %d (%s)", code-128, sig)
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	v.say(ctx, runs, conf.InstanceRejected, reason)
}

func (v *verdict) say(ctx context.Context, runs *conf.Metadata, status conf.InstanceStatus, reason string) {
	err := v.client.Acknowledge(ctx, v.service, conf.Ack{Version: runs.Version, Epoch: runs.Epoch, Status: status, Reason: reason})
	if err != nil && ctx.Err() == nil && conf.CodeOf(err) != conf.CodeConflict {
		v.log.Warn("the agent was not told what became of a version", "service", v.service, "version", runs.Version, "err", err)
	}
}
