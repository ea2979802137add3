package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// keepKeys bounds the keys of one kind: one more pushes out the oldest that is at
// its end. A receiver that was away for longer cannot follow the proofs any more.
const keepKeys = 100

// keyring applies all of c or, with a refusal, nothing.
func (t *tx) keyring(c *command.Keyring) error {
	ring, err := readKeyring(t.ctx, t.w, t.dig)
	if err != nil {
		return err
	}
	for _, n := range c.Announce {
		if err := t.announceKey(&ring, c, n); err != nil {
			return err
		}
	}
	for _, a := range c.Activate {
		if err := t.activateKey(&ring, c, a); err != nil {
			return err
		}
	}
	for _, e := range c.End {
		is := ring.Find(e.Kind, e.ID)
		switch {
		case is == nil:
			return refuse(conf.CodeNotFound, "no %s key %s", e.Kind, e.ID)
		case is == ring.Active(e.Kind):
			return refusal{conf.Errorf(conf.CodeConflict, "the %s key %s is in use", e.Kind, e.ID).WithHint("rotate it: holdfast keys rotate %s", e.Kind)}
		}
		k := *is
		k.NotAfter = e.NotAfter
		if err := t.putKey(&ring, k); err != nil {
			return err
		}
	}
	return t.audit(c.Audit)
}

func (t *tx) announceKey(ring *conf.Keyring, c *command.Keyring, n command.NewKey) error {
	is, next := ring.Find(n.Kind, n.ID), ring.Next(n.Kind)
	switch {
	case is != nil && (is.NotAfter != "" || is.Public != n.Public):
		return refuse(conf.CodeConflict, "the %s key %s was announced before", n.Kind, n.ID)
	case is != nil:
		if k := *is; k.Hold && !n.Hold {
			k.Hold = false
			return t.putKey(ring, k)
		}
		return nil
	case next != nil:
		return refusal{conf.Errorf(conf.CodeConflict, "the %s key %s was announced and is not in use yet", n.Kind, next.ID).
			WithHint("wait until it is: holdfast keys status; or give it up: holdfast keys rotate %s --abort", n.Kind)}
	}
	if err := t.forgetKey(*ring, n.Kind, c.At); err != nil {
		return err
	}
	return t.putKey(ring, conf.Key{Kind: n.Kind, ID: n.ID, Public: n.Public, Proof: n.Proof, AnnouncedAt: c.At, CreatedBy: c.By, Hold: n.Hold})
}

func (t *tx) activateKey(ring *conf.Keyring, c *command.Keyring, a command.KeyTurn) error {
	is, active := ring.Find(a.Kind, a.ID), ring.Active(a.Kind)
	switch {
	case is == nil:
		return refuse(conf.CodeNotFound, "the %s key %s was not announced", a.Kind, a.ID)
	case is == active:
		return nil
	case is.NotBefore != "" || is.NotAfter != "":
		return refuse(conf.CodeConflict, "the %s key %s is at its end", a.Kind, a.ID)
	case active != nil && a.OldUntil == "":
		return refuse(conf.CodeInvalid, "until when the %s key %s is taken is not said", a.Kind, active.ID)
	}
	now := *is
	now.NotBefore = c.At
	if active != nil {
		was := *active
		was.NotAfter = a.OldUntil
		if err := t.putKey(ring, was); err != nil {
			return err
		}
	}
	return t.putKey(ring, now)
}

func (t *tx) putKey(ring *conf.Keyring, k conf.Key) error {
	old, err := readRow(t.ctx, t.w, t.dig, tableKeyring, k.Kind, k.ID)
	if err != nil {
		return err
	}
	if is := ring.Find(k.Kind, k.ID); is != nil {
		*is = k
	} else {
		*ring = append(*ring, k)
	}
	hold := int64(0)
	if k.Hold {
		hold = 1
	}
	return t.upsert(tableKeyring, old, k.Kind, k.ID, null(k.Public), k.AnnouncedAt, null(k.NotBefore), null(k.NotAfter), null(k.CreatedBy), null(k.Proof), hold)
}

// forgetKey makes room for one more key of a kind.
func (t *tx) forgetKey(ring conf.Keyring, kind, at string) error {
	n := 0
	var oldest *conf.Key
	for i := range ring {
		if ring[i].Kind != kind {
			continue
		}
		n++
		if s := ring[i].State(at); oldest == nil && (s == conf.KeyExpired || s == conf.KeyWithdrawn) {
			oldest = &ring[i]
		}
	}
	if n < keepKeys || oldest == nil {
		return nil
	}
	return t.remove(tableKeyring, oldest.Kind, oldest.ID)
}

// Keyring lists the keys of the cluster, in the order in which they were announced.
func (s *Store) Keyring(ctx context.Context) (conf.Keyring, error) {
	return s.ring.get(s, func() (ring []conf.Key, err error) {
		err = s.read(ctx, "read the keyring", func(q querier) (err error) {
			ring, err = readKeyring(ctx, q, newDigester())
			return err
		})
		return ring, err
	})
}

func readKeyring(ctx context.Context, q querier, dig *digester) (conf.Keyring, error) {
	ring := conf.Keyring{}
	err := eachRow(ctx, q, tableKeyring, dig, func(vals []any, d [sha256.Size]byte) error {
		r := &row{vals, d}
		ring = append(ring, conf.Key{
			Kind: r.text(0), ID: r.text(1), Public: r.text(2), AnnouncedAt: r.text(3), NotBefore: r.text(4), NotAfter: r.text(5),
			CreatedBy: r.text(6), Proof: r.text(7), Hold: intOf(r.vals[8]) == 1,
		})
		return nil
	})
	slices.SortStableFunc(ring, func(a, b conf.Key) int {
		return cmp.Or(strings.Compare(a.AnnouncedAt, b.AnnouncedAt), strings.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
	})
	return ring, err
}
