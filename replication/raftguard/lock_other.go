//go:build !unix

package raftguard

import (
	"context"
	"os"
	"time"
)

// lockFile does nothing: bbolt locks the file.
func lockFile(context.Context, *os.File, time.Duration) error { return nil }
