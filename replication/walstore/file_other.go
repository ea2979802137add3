//go:build !linux

package walstore

import "os"

func syncData(f *os.File) error { return f.Sync() }

// allocate gives a new file its size.
func allocate(f *os.File, size int64) error { return f.Truncate(size) }
