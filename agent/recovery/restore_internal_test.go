package recovery

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// What a file system has at the root of a volume is no data of an agent; a file with such
// a name, and every other name, may be.
func TestRestoreIntoAVolume(t *testing.T) {
	for name, empty := range map[string]bool{
		"lost+found/": true, ".snapshot/": true, ".snapshots/": true, ".zfs/": true, ".DS_Store": true, ".env": true,
		"lost+found": false, ".snapshot": false, "raft/": false, "config.db": false, "tls/": false, "notes.txt": false,
	} {
		o := options.Defaults()
		o.DataDir = t.TempDir()
		if err := o.Complete(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(o.DataDir, name)
		var err error
		if name[len(name)-1] == '/' {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, nil, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := checkEmpty(&o); (err == nil) != empty || (err != nil && conf.CodeOf(err) != conf.CodeConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
