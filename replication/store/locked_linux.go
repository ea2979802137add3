package store

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// walWriteLock is the byte of the -shm file that a writer of a database in WAL mode locks.
const walWriteLock = 120

// heldByOther reports whether another process has the lock of a writer. The locks of this
// process are of open file descriptions, which the kernel reports without a process; this
// asks for nothing but the owner, and takes no lock.
func heldByOther(path string) bool {
	if !sqlite.OFDLockingEnabled() {
		return false // closing the file here would drop the locks of this process
	}
	f, err := os.OpenFile(path+"-shm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: walWriteLock, Len: 1}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK && lock.Pid != -1
}
