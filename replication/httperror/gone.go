package httperror

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ClientGone reports whether err only says that the client has disconnected, or has
// closed its side of the connection: a canceled wait, or that something was not
// available in the time that was left. Nothing failed then, and no response is owed. ctx
// is the context of the request as the server made it: one that a handler canceled
// tells nothing of the client.
func ClientGone(ctx context.Context, err error) bool {
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		return false
	}
	code := conf.CodeOf(err)
	return errors.Is(err, context.Canceled) || code != conf.CodeInternal && Status(code) >= http.StatusInternalServerError
}

// Abandon ends the request without a response and closes its connection. It does not
// return; net/http logs nothing.
func Abandon() { panic(http.ErrAbortHandler) }
