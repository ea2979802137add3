package testenv

import (
	"context"
	"fmt"
	"reflect"
	"testing"
)

// CheckInvariants is what holds after everything that a test did to a cluster:
// all agents that live come to the same state, serve the same documents, and
// nothing that was acknowledged is missing. l is nil when there was no load; it is
// stopped.
func (c *Cluster) CheckInvariants(t testing.TB, l *Load) {
	t.Helper()
	if l != nil {
		l.Stop()
		leader := c.Leader()
		for i, s := range l.services { // the last word: a read that sees all of it
			Await(t, "a consistent read of "+s, func() bool {
				in := input{op: opGet, service: s}
				call := l.now()
				out, definite := l.lastTry(leader, in)
				if definite {
					l.add(1000+i, in, call, out)
				} else {
					leader = c.Leader()
				}
				return definite
			})
		}
	}
	c.AwaitConverged(t)
	if l != nil {
		l.Check(t)
		l.checkKept(t)
		if slow, reads := l.Count("slow reads"), l.Count("reads"); slow > 3+reads/200 {
			t.Errorf("%d of %d local reads took longer than two seconds", slow, reads)
		}
	}
}

// lastTry is try after the load was stopped.
func (l *Load) lastTry(n *Node, in input) (output, bool) {
	stopped := l.ctx
	l.ctx = context.Background()
	defer func() { l.ctx = stopped }()
	return l.try(n, in, "last")
}

// AwaitConverged waits until all living agents have the same digest of their
// state, and serve the same documents.
func (c *Cluster) AwaitConverged(t testing.TB) {
	t.Helper()
	var why error
	if !poll(Patience, func() bool { why = c.converged(); return why == nil }) {
		t.Fatalf("waited %v in vain for all agents to agree: %v", Patience, why)
	}
}

func (c *Cluster) converged() error {
	live := c.Live()
	if len(live) == 0 {
		return fmt.Errorf("no agent lives")
	}
	st, ok := live[0].Status()
	if !ok {
		return fmt.Errorf("%s tells no status", live[0].ID)
	}
	first, _ := live[0].In(st)
	for _, n := range live {
		d, ok := n.In(st)
		switch {
		case !ok || !d.Reachable:
			return fmt.Errorf("%s does not reach %s: %s", live[0].ID, n.ID, d.Err)
		case d.Digest == "" || d.Digest != first.Digest:
			return fmt.Errorf("%s has the digest %.12s, %s has %.12s", live[0].ID, first.Digest, n.ID, d.Digest)
		case d.ConfigEpoch != first.ConfigEpoch:
			return fmt.Errorf("%s is in epoch %s, %s in %s", live[0].ID, first.ConfigEpoch, n.ID, d.ConfigEpoch)
		}
	}
	for s := range first.Services {
		want, err := live[0].TryDocument(s)
		if err != nil {
			return err
		}
		for _, n := range live[1:] {
			got, err := n.TryDocument(s)
			if err != nil {
				return err
			}
			// What is signed is the same everywhere, to the byte.
			if string(got.Config) != string(want.Config) || !reflect.DeepEqual(got.Metadata, want.Metadata) {
				return fmt.Errorf("%s serves %s as %s %s, %s as %s %s", live[0].ID, s, want.Config, jsonText(want.Metadata), n.ID, got.Config, jsonText(got.Metadata))
			}
		}
	}
	return nil
}

// checkKept holds that each service is at least at the highest version that was
// acknowledged; that the values are the right ones is the model's to say.
func (l *Load) checkKept(t testing.TB) {
	t.Helper()
	n := l.c.Live()[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, acked := range l.acked {
		d, err := n.TryDocument(s)
		if err != nil {
			continue // deleted: the model knows its version
		}
		if d.Metadata.Version < acked {
			t.Errorf("%s is at version %d, and version %d was acknowledged", s, d.Metadata.Version, acked)
		}
	}
}
