//go:build !unix

package replication

import (
	"context"
	"os"
	"time"
)

// lockFile leaves the locking to bbolt.
func lockFile(context.Context, *os.File, time.Duration) error { return nil }
