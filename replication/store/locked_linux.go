package store

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// walWriteLock is the byte of the -shm file that a writer of a database in WAL mode locks.
const walWriteLock = 120

// lockProbe asks who has the lock of a writer. It keeps the file open: each change asks.
type lockProbe struct {
	mu     sync.Mutex
	shm    *os.File // nil: not asked yet
	closed bool
}

// heldByOther reports whether another process has the lock of a writer of the database at
// path, which is open. It asks for nothing but the owner, and takes no lock. Of this process
// SQLite takes locks of either kind: those of open file descriptions, which the kernel reports
// without a process, and, on the -shm file, those of the process.
func (p *lockProbe) heldByOther(path string) bool {
	if !sqlite.OFDLockingEnabled() {
		return false // closing the file here would drop the locks of this process
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shm == nil {
		if p.closed {
			return false
		}
		f, err := os.OpenFile(path+"-shm", os.O_RDWR, 0)
		if err != nil {
			return false
		}
		p.shm = f
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: walWriteLock, Len: 1}
	return unix.FcntlFlock(p.shm.Fd(), unix.F_OFD_GETLK, &lock) == nil &&
		lock.Type != unix.F_UNLCK && lock.Pid != -1 && lock.Pid != int32(os.Getpid()) //nolint:gosec // fits
}

func (p *lockProbe) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.shm == nil {
		return nil
	}
	err := p.shm.Close()
	p.shm = nil
	return err
}
