//go:build unix

package durable

import "golang.org/x/sys/unix"

// Volume is the size in bytes of the volume that has dir, 0 when it cannot be found out.
func Volume(dir string) uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return uint64(st.Blocks) * uint64(st.Bsize) //nolint:gosec,unconvert // the types differ between systems
}
