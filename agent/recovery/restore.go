package recovery

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/schemas"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/durable"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

// RestorePoint is what to restore; the zero value is the newest state.
type RestorePoint struct {
	Generation string    // CONFIG_EPOCH/TERM-NODE, or TERM-NODE of the newest epoch
	At         time.Time // the newest state that was in the backup before it
	// Progress receives the number of bytes that are restored. It may be nil, and is
	// called concurrently.
	Progress func(done, total int64)
}

// RestoredFile is the result of RestoreFile, for users as JSON.
type RestoredFile struct {
	File       string  `json:"file"`
	Generation string  `json:"generation"`
	Epoch      string  `json:"config_epoch"`
	Index      uint64  `json:"index"`
	Digest     string  `json:"state_digest"`
	Bytes      int64   `json:"bytes"`
	At         string  `json:"at"` // when the last change in it was copied
	Took       float64 `json:"took_seconds"`
}

// RestoreFile writes the database file out from the backup and verifies all of it. It
// needs no agent and overwrites nothing.
func RestoreFile(ctx context.Context, o options.Options, p RestorePoint, out string, log *slog.Logger) (RestoredFile, error) {
	if !o.Backup.Enabled() {
		return RestoredFile{}, errNoBackupTarget()
	}
	start := time.Now()
	got, err := backup.Restore(ctx, o.Backup, backup.Selection{Generation: p.Generation, At: p.At, Own: backupIdentity(&o)}, out, checker(schema.NewCache(), log), p.Progress)
	if err != nil {
		return RestoredFile{}, err
	}
	return RestoredFile{
		File: out, Generation: got.Generation.ID, Epoch: got.Epoch, Index: got.Index, Digest: got.Digest,
		Bytes: got.Bytes, At: conf.FormatTime(got.At), Took: time.Since(start).Seconds(),
	}, nil
}

// backupIdentity is whose backups are meant: those of the cluster with the public
// keys of the settings, if there are any.
func backupIdentity(o *options.Options) (id backup.ClusterIdentity) {
	for _, name := range []string{keys.EnvPublicKey, keys.EnvPublicOldKey} {
		text, ok := o.LookupEnv(name)
		if !ok || text == "" {
			continue
		}
		if list, err := client.ParseKeys([]byte(text)); err == nil {
			for _, k := range list {
				id.Keys = append(id.Keys, seal.KeyID(k))
			}
		}
	}
	return id
}

func errNoBackupTarget() error {
	return conf.Errorf(conf.CodeUsage, "no backup target is configured").
		WithHint("set LITESTREAM_S3_ENDPOINT and the other LITESTREAM_ settings in the environment or in the .env file (--env-file)")
}

// RestoreCluster fills an empty data directory from the backup. The agent that starts
// in it begins a new epoch with the restored data. The keys of the cluster must be in
// the .env file already. It is safe to repeat after an interruption.
func RestoreCluster(ctx context.Context, o options.Options, p RestorePoint, log *slog.Logger) (got RestoredFile, err error) {
	if err := o.Complete(); err != nil {
		return got, err
	}
	if !o.Backup.Enabled() {
		return got, errNoBackupTarget()
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return got, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	lock, err := process.LockDir(o.DataDir)
	if err != nil {
		return got, conf.Errorf(conf.CodeConflict, "%w", err).
			WithHint("a running cluster goes back in time by holdfast rollback --all --timestamp T; a new one needs an empty data directory (--data-dir)")
	}
	defer lock.Close()
	if err := checkEmpty(&o); err != nil {
		return got, err
	}
	for _, name := range []string{"CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_MASTER_KEY_BASE64"} {
		if v, ok := o.LookupEnv(name); !ok || v == "" {
			return got, conf.Errorf(conf.CodeUsage, "%s is not set: a backup holds no keys", name).
				WithHint("put the .env file of a server of the lost cluster to %s first; the values in the backup are signed and sealed by its keys", o.EnvFile)
		}
	}
	if o.NodeID, err = process.NodeID(o); err != nil {
		return got, err
	}
	tmp := o.DBPath + ".restored"
	removeRestored(tmp)
	got, err = RestoreFile(ctx, o, p, tmp, log)
	if err != nil {
		return got, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if err := verifySigners(ctx, &o, tmp, log, notRemoved(o.NodeID)); err != nil {
		return got, err
	}
	pending := Pending{
		Epoch: uuid.NewString(), OldEpoch: got.Epoch, NodeID: o.NodeID, Source: sourceBackup,
		Reason: "restored from the backup " + got.Generation + ", index " + strconv.FormatUint(got.Index, 10),
	}
	// Written first: a database without this file would continue the old epoch.
	if err := pending.write(&o); err != nil {
		return got, err
	}
	if err := durable.Rename(tmp, o.DBPath); err != nil {
		return got, err
	}
	got.File = o.DBPath
	log.Info("restored from the backup", "generation", got.Generation, "index", got.Index, "at", got.At, "bytes", got.Bytes, "new_epoch", pending.Epoch)
	return got, nil
}

// checkEmpty rejects a directory that an agent has used.
func checkEmpty(o *options.Options) error {
	if p, err := LoadPending(o); err == nil && p != nil && p.FromBackup() {
		if _, err := os.Lstat(o.DBPath); errors.Is(err, fs.ErrNotExist) {
			return nil // an interrupted restore
		}
	}
	mine := []string{"agent.lock", "node-id", filepath.Base(o.EnvFile), filepath.Base(o.EnvFile) + ".lock"}
	ents, err := os.ReadDir(o.DataDir)
	if err != nil {
		return err
	}
	var found []string
	for _, e := range ents {
		if !slices.Contains(mine, e.Name()) && !ofVolume(e) && !strings.HasPrefix(e.Name(), "config.db.restored") {
			found = append(found, e.Name())
		}
	}
	for _, p := range []string{o.DBPath, o.LKGPath, o.EpochPath} {
		if _, err := os.Lstat(p); err == nil && !slices.Contains(found, filepath.Base(p)) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return conf.Errorf(conf.CodeConflict, "%s is not empty: it holds %s", o.DataDir, strings.Join(found[:min(5, len(found))], ", ")).
		WithHint("a restore overwrites nothing: use an empty data directory (--data-dir) with the .env file in it, or move these files away. For one file alone: holdfast backup restore -o FILE")
}

// ofVolume reports whether a file system or its volume manager, and no agent, made the
// entry at the root of a volume.
func ofVolume(e fs.DirEntry) bool {
	switch e.Name() {
	case "lost+found", ".snapshot", ".snapshots", ".zfs", ".Trashes", "$RECYCLE.BIN", "System Volume Information", "@eaDir":
		return e.IsDir()
	case ".DS_Store", "aquota.user", "aquota.group":
		return e.Type().IsRegular()
	}
	return false
}

// notRemoved rejects a backup in which the member with this id was removed: the others
// that read the same rows refuse an agent with the id of a removed member.
func notRemoved(node string) func(context.Context, *store.Store) error {
	return func(ctx context.Context, st *store.Store) error {
		members, err := st.Queries.Members(ctx)
		for _, m := range members {
			if err == nil && m.NodeID == node && m.RemovedAt != "" {
				return conf.Errorf(conf.CodeConflict, "this agent is %s, and the backup has %s as removed from the cluster: no member would accept it", node, node).
					WithHint("set CONFIG_NODE_ID (--node-id) to an id that was not in use")
			}
		}
		return err
	}
}

// verifySigners checks that the keys in the .env file are those of the backup, and more.
func verifySigners(ctx context.Context, o *options.Options, file string, log *slog.Logger, more ...func(context.Context, *store.Store) error) error {
	set, _, err := keys.Load(o.Env, o.EnvFile, keys.Options{Role: conf.MemberServer, Joined: true})
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, schemas.StoreOptions(file, schema.NewCache(), log))
	if err != nil {
		if st != nil {
			_ = st.Close()
		}
		return err
	}
	trusted := map[string]ed25519.PublicKey{seal.KeyID(set.Public): set.Public}
	if len(set.OldPublic) > 0 {
		trusted[seal.KeyID(set.OldPublic)] = set.OldPublic
	}
	total, ours := 0, 0
	err = st.Queries.Records(ctx, func(r *conf.Record) error {
		if r.Version == 0 {
			return nil
		}
		total++
		known := true
		for id := range r.KeyIDs() {
			known = known && trusted[id] != nil
		}
		if known {
			ours++
		}
		return VerifyRecord(r, trusted)
	})
	if err == nil {
		err = checkSignerCounts(total, ours, o.EnvFile)
	}
	for _, check := range more {
		if err == nil {
			err = check(ctx, st)
		}
	}
	if failed := st.Close(); err == nil {
		err = failed
	}
	return err
}

// checkSignerCounts rejects a backup with a service that no known key signed: a writer
// of the backup target without a key could have put it there. The leader reissues
// everything under a new key, so an old key alone explains no such service.
func checkSignerCounts(total, ours int, envFile string) error {
	switch {
	case ours == total:
		return nil
	case ours == 0:
		return conf.Errorf(conf.CodeDenied, "none of the %d services in the backup is signed by the key of %s", total, envFile).
			WithHint("put the .env file of the lost cluster there: the one that was in use when this backup was made")
	}
	return conf.Errorf(conf.CodeDenied, "%d of the %d services in the backup are not signed by a key of %s", total-ours, total, envFile).
		WithHint("another writer of the backup target may have added them: restore an earlier backup, or a later one when a key was rotated shortly before it")
}

func checker(cache *schema.Cache, log *slog.Logger) func(context.Context, string) (backup.Content, error) {
	return func(ctx context.Context, file string) (backup.Content, error) {
		return CheckFile(ctx, file, cache, log)
	}
}

// removeRestored removes what an interrupted restore left at path.
func removeRestored(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", ".tmp"} {
		_ = os.Remove(path + suffix)
	}
}
