package replication

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Quarantine moves dir, the directory of log and snapshots of a Member that is
// not open, out of the way but not out of reach: to quarantine/<time>-<name>
// beside it, with the reason in a file. Open then starts anew from the store.
func Quarantine(dir, reason string) (string, error) {
	parent := filepath.Join(filepath.Dir(dir), "quarantine")
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", storageError(err, "cannot make %s", parent)
	}
	base := filepath.Join(parent, time.Now().UTC().Format("20060102T150405.000000Z")+"-"+filepath.Base(dir))
	to := base
	for i := 2; exists(to); i++ {
		to = base + "-" + strconv.Itoa(i)
	}
	if err := os.Rename(dir, to); err != nil {
		return "", storageError(err, "cannot set %s aside", dir)
	}
	for _, d := range []string{parent, filepath.Dir(dir)} {
		if err := syncDir(d); err != nil {
			return to, storageError(err, "cannot set %s aside for good", dir)
		}
	}
	if err := writeFileSync(filepath.Join(to, "reason.txt"), []byte(reason+"\n")); err != nil {
		return to, storageError(err, "cannot write the reason")
	}
	return to, nil
}
