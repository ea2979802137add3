package rotation

import (
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// keyFile changes the .env file of this agent, and then the key set in memory. The caller
// holds Manager.mu, but for canRotate, which changes nothing.
type keyFile struct {
	o      *options.Options
	holder *keys.Holder
	port   *transport.Transport
}

func (f *keyFile) options() keys.Options {
	return keys.Options{Role: string(f.port.Identity().Role), Joined: true, LockTimeout: 2 * time.Second}
}

// canRotate reports whether this agent can store a new key.
func (f *keyFile) canRotate(kind string) error {
	if kind == conf.KeyCA {
		return nil
	}
	return keys.Rotatable(f.o.Env, f.o.EnvFile, kind, f.options())
}

// rotate makes a key the main one, and active the old one.
func (f *keyFile) rotate(k keys.Material, active string) error {
	return f.use(keys.Rotate(f.o.Env, f.o.EnvFile, k, active, f.options()))
}

// undo removes a key, and makes the old one the main one.
func (f *keyFile) undo(kind, id string) error {
	return f.use(keys.Undo(f.o.Env, f.o.EnvFile, kind, id, f.options()))
}

// drop removes an old key.
func (f *keyFile) drop(kind, id string) error {
	return f.use(keys.Drop(f.o.Env, f.o.EnvFile, kind, id, f.options()))
}

// use takes what the file holds now.
func (f *keyFile) use(set keys.Set, err error) error {
	if err == nil {
		f.holder.Store(set)
	}
	return err
}
