package process

import (
	"errors"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// PublicCause returns the message of an error of ours, and nil for others: those may
// hold file paths and driver texts, which callers do not get.
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
