package process

import (
	"errors"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// PublicCause returns the message of a *conf.Error, else nil: other errors may contain
// file paths and driver texts, which callers must not receive.
func PublicCause(err error) error {
	if e, ok := errors.AsType[*conf.Error](err); ok {
		return errors.New(e.Message)
	}
	return nil
}

// PublicText is the message of an error, without causes that name paths.
func PublicText(err error) string {
	if c := PublicCause(err); c != nil {
		return c.Error()
	}
	return err.Error()
}
