package client

import (
	"context"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// KeyRing returns the keys of the cluster, who holds them, and the state of
// rotations.
func (c Keyring) KeyRing(ctx context.Context) (conf.KeysStatus, error) {
	return get[conf.KeysStatus](ctx, c.caller, nil, "keys")
}

// ChangeKey makes a change of conf (conf.KeysRotate and so on) of the key of a kind,
// and returns the state of its rotation, which continues by itself.
func (c Keyring) ChangeKey(ctx context.Context, change, kind, reason string) (conf.KeyRotation, error) {
	return call[conf.KeyRotation](ctx, c.caller, request{
		method: http.MethodPost, path: []string{"keys", kind, change}, query: Change{Reason: reason}.query(), change: true,
	})
}
