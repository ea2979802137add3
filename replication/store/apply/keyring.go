package apply

import (
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// MaxKeys bounds the keys of one kind: one more replaces the oldest that expired or was
// withdrawn. A receiver that was offline for longer cannot follow the key proofs.
const MaxKeys = 100

// keyringTx applies one Keyring command.
type keyringTx struct {
	*tx
	c    *command.Keyring
	keys conf.Keyring // as the command has left it
}

// apply applies all of the command or, with a rejection, nothing.
func (t *keyringTx) apply() (err error) {
	c := t.c
	if t.keys, err = tables.ReadKeyring(t.ctx, t.w, t.dig); err != nil {
		return err
	}
	if err := each(c.Announce, t.announceKey); err != nil {
		return err
	}
	if err := each(c.Activate, t.activateKey); err != nil {
		return err
	}
	for _, e := range c.End {
		is := t.keys.Find(e.Kind, e.ID)
		switch {
		case is == nil:
			return reject(conf.CodeNotFound, "no %s key %s", e.Kind, e.ID)
		case is == t.keys.Active(e.Kind):
			return rejection{conf.Errorf(conf.CodeConflict, "the %s key %s is in use", e.Kind, e.ID).WithHint("rotate it: holdfast keys rotate %s", e.Kind)}
		}
		k := *is
		k.NotAfter = e.NotAfter
		if err := t.putKey(k); err != nil {
			return err
		}
	}
	return t.audit(c.Audit)
}

func (t *keyringTx) announceKey(n command.NewKey) error {
	is, next := t.keys.Find(n.Kind, n.ID), t.keys.Next(n.Kind)
	switch {
	case is != nil && (is.NotAfter != "" || is.Public != n.Public):
		return reject(conf.CodeConflict, "the %s key %s was announced before", n.Kind, n.ID)
	case is != nil:
		if k := *is; k.Hold && !n.Hold {
			k.Hold = false
			return t.putKey(k)
		}
		return nil
	case next != nil:
		return rejection{conf.Errorf(conf.CodeConflict, "the %s key %s was announced and is not in use yet", n.Kind, next.ID).
			WithHint("wait for it: holdfast keys status; or withdraw it: holdfast keys rotate %s --abort", n.Kind)}
	}
	if err := t.removeOldKey(n.Kind); err != nil {
		return err
	}
	return t.putKey(conf.Key{Kind: n.Kind, ID: n.ID, Public: n.Public, Proof: n.Proof, AnnouncedAt: t.c.At, CreatedBy: t.c.By, Hold: n.Hold})
}

func (t *keyringTx) activateKey(a command.KeyActivation) error {
	is, active := t.keys.Find(a.Kind, a.ID), t.keys.Active(a.Kind)
	switch {
	case is == nil:
		return reject(conf.CodeNotFound, "the %s key %s was not announced", a.Kind, a.ID)
	case is == active:
		return nil
	case is.NotBefore != "" || is.NotAfter != "":
		return reject(conf.CodeConflict, "the %s key %s is at its end", a.Kind, a.ID)
	case active != nil && a.OldUntil == "":
		return reject(conf.CodeInvalid, "the end of the old %s key %s is missing", a.Kind, active.ID)
	}
	now := *is
	now.NotBefore = t.c.At
	if active != nil {
		was := *active
		was.NotAfter = a.OldUntil
		if err := t.putKey(was); err != nil {
			return err
		}
	}
	return t.putKey(now)
}

func (t *keyringTx) putKey(k conf.Key) error {
	old, err := t.read(tables.Keyring, k.Kind, k.ID)
	if err != nil {
		return err
	}
	if is := t.keys.Find(k.Kind, k.ID); is != nil {
		*is = k
	} else {
		t.keys = append(t.keys, k)
	}
	return t.upsert(tables.Keyring, old, k.Kind, k.ID, tables.Null(k.Public), k.AnnouncedAt, tables.Null(k.NotBefore), tables.Null(k.NotAfter), tables.Null(k.CreatedBy), tables.Null(k.Proof), tables.Bit(k.Hold))
}

// removeOldKey makes room for one more key of a kind.
func (t *keyringTx) removeOldKey(kind string) error {
	n := 0
	var oldest *conf.Key
	for i := range t.keys {
		if t.keys[i].Kind != kind {
			continue
		}
		n++
		if s := t.keys[i].State(t.c.At); oldest == nil && (s == conf.KeyExpired || s == conf.KeyWithdrawn) {
			oldest = &t.keys[i]
		}
	}
	if n < MaxKeys || oldest == nil {
		return nil
	}
	return t.remove(tables.Keyring, oldest.Kind, oldest.ID)
}
