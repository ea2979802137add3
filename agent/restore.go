package agent

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
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/schema"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/replication/store"
)

// RestorePoint says what to restore; the zero value is the newest.
type RestorePoint struct {
	Generation string    // CONFIG_EPOCH/TERM-NODE, or TERM-NODE of the newest epoch
	At         time.Time // the newest state that was in the backup before it
	// Progress is told how many of the bytes have come; it may be nil, and is
	// called from more than one goroutine at a time.
	Progress func(done, total int64)
}

// RestoredFile says what RestoreFile made.
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

// RestoreFile makes the database file out from the backup and proves all of it. It
// needs no agent and overwrites nothing.
func RestoreFile(ctx context.Context, o Options, p RestorePoint, out string, log *slog.Logger) (RestoredFile, error) {
	if !o.Backup.Enabled() {
		return RestoredFile{}, noPlace()
	}
	s := &supervisor{o: o, log: log, schemas: schema.NewCache()}
	start := time.Now()
	got, err := backup.Restore(ctx, o.Backup, backup.Selection{Generation: p.Generation, At: p.At, Own: o.backupIdentity()}, out, s.checkBackup, p.Progress)
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
func (o *Options) backupIdentity() (id backup.Identity) {
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

func noPlace() error {
	return conf.Errorf(conf.CodeUsage, "no place of backups is set").
		WithHint("set LITESTREAM_S3_ENDPOINT and what belongs to it, in the environment or in the .env file (--env-file)")
}

// RestoreCluster fills an empty data directory from the backup, so that the agent
// which is started in it begins a new epoch with all that was there. The keys of
// the cluster have to be in the .env file already. Doing it again after it was cut
// short is safe.
func RestoreCluster(ctx context.Context, o Options, p RestorePoint, log *slog.Logger) (got RestoredFile, err error) {
	if err := o.Complete(); err != nil {
		return got, err
	}
	if !o.Backup.Enabled() {
		return got, noPlace()
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return got, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	lock, err := lockDir(o.DataDir)
	if err != nil {
		return got, conf.Errorf(conf.CodeConflict, "%w", err).
			WithHint("a running cluster goes back in time by holdfast rollback --all --timestamp T; a new one needs an empty data directory (--data-dir)")
	}
	defer lock.Close()
	if err := o.emptyForRestore(); err != nil {
		return got, err
	}
	for _, name := range []string{"CONFIG_SIGNATURE_PRIVATE_KEY", "CONFIG_MASTER_KEY_BASE64"} {
		if v, ok := o.LookupEnv(name); !ok || v == "" {
			return got, conf.Errorf(conf.CodeUsage, "%s is not set: a backup holds no keys", name).
				WithHint("put the .env file of a server of the lost cluster to %s first; the values in the backup are signed and sealed by its keys", o.EnvFile)
		}
	}
	if o.NodeID, err = nodeID(o); err != nil {
		return got, err
	}
	tmp := o.DBPath + ".restored"
	for _, suffix := range []string{"", "-wal", "-shm", ".tmp"} {
		_ = os.Remove(tmp + suffix)
	}
	got, err = RestoreFile(ctx, o, p, tmp, log)
	if err != nil {
		return got, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if err := o.signedByOurs(ctx, tmp, log); err != nil {
		return got, err
	}
	r := revival{
		Epoch: uuid.NewString(), OldEpoch: got.Epoch, NodeID: o.NodeID, Source: sourceBackup,
		Reason: "restored from the backup " + got.Generation + ", index " + uitoa(got.Index),
	}
	// First: a database without it would go on in the old epoch.
	if err := lkg.WriteJSON(o.recoverPending(), r, 0o600); err != nil {
		return got, err
	}
	if err := os.Rename(tmp, o.DBPath); err != nil {
		return got, err
	}
	got.File = o.DBPath
	log.Info("restored from the backup", "generation", got.Generation, "index", got.Index, "at", got.At, "bytes", got.Bytes, "new_epoch", r.Epoch)
	return got, nil
}

const sourceBackup = "backup"

// emptyForRestore refuses a directory in which an agent has lived.
func (o *Options) emptyForRestore() error {
	if r, err := readRevival(*o); err == nil && r != nil && r.Source == sourceBackup {
		if _, err := os.Lstat(o.DBPath); errors.Is(err, fs.ErrNotExist) {
			return nil // one that was cut short
		}
	}
	mine := []string{"agent.lock", "node-id", filepath.Base(o.EnvFile), filepath.Base(o.EnvFile) + ".lock"}
	ents, err := os.ReadDir(o.DataDir)
	if err != nil {
		return err
	}
	var found []string
	for _, e := range ents {
		if !slices.Contains(mine, e.Name()) && !strings.HasPrefix(e.Name(), "config.db.restored") {
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

// signedByOurs looks whether the keys in the .env file are those of the backup.
func (o *Options) signedByOurs(ctx context.Context, file string, log *slog.Logger) error {
	set, _, err := keys.Load(o.Env, o.EnvFile, keys.Options{Role: conf.MemberServer, Joined: true})
	if err != nil {
		return err
	}
	s := &supervisor{o: *o, log: log, schemas: schema.NewCache()}
	st, err := store.Open(ctx, store.Options{Path: file, Logger: log, Project: s.project, ModelHash: modelHash})
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
	err = st.Records(ctx, func(r *conf.Record) error {
		if r.Version == 0 {
			return nil
		}
		total++
		if trusted[r.KeyID] != nil {
			ours++
		}
		return proven(r, trusted)
	})
	err = errors.Join(err, st.Close())
	if err == nil {
		err = signedByUs(total, ours, o.EnvFile)
	}
	return err
}

// signedByUs refuses a backup with a service that no known key signed: who can
// write to where backups are kept, and has no key, could have put it there. The
// leader signs everything anew, so an old key alone is no reason for one.
func signedByUs(total, ours int, envFile string) error {
	switch {
	case ours == total:
		return nil
	case ours == 0:
		return conf.Errorf(conf.CodeDenied, "none of the %d services in the backup is signed by the key of %s", total, envFile).
			WithHint("put the .env file of the lost cluster there: the one that was in use when this backup was made")
	}
	return conf.Errorf(conf.CodeDenied, "%d of the %d services in the backup are not signed by a key of %s", total-ours, total, envFile).
		WithHint("somebody may have put them there: take an earlier backup; or, when a key was changed shortly before, a later one")
}

// fromBackup puts the newest good backup in the place of a lost database, for a
// rebuild. It says whether it did.
func (s *supervisor) fromBackup(ctx context.Context, p *rebuildPlan) (*revival, error) {
	if !s.o.Backup.Enabled() || p.source == "memory" {
		return nil, nil //nolint:nilnil // none is not an error
	}
	s.st.set(conf.DatabaseCorrupted, conf.ModeRebuilding, "rebuilding: looking for a backup", nil)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tmp := s.o.DBPath + ".restored"
	for _, suffix := range []string{"", "-wal", "-shm", ".tmp"} {
		_ = os.Remove(tmp + suffix)
	}
	epoch := s.view.Load().Epoch
	ours := backup.Identity{Epochs: append(s.ancestors(epoch), epoch), Keys: conf.SortedKeys(s.publicKeys())}
	got, err := backup.Restore(ctx, s.o.Backup, backup.Selection{Verified: true, Own: ours}, tmp, s.checkBackup, nil)
	if conf.CodeOf(err) == conf.CodeNotFound {
		got, err = backup.Restore(ctx, s.o.Backup, backup.Selection{Own: ours}, tmp, s.checkBackup, nil)
	}
	if err == nil {
		err = s.o.signedByOurs(ctx, tmp, s.log)
	}
	if err != nil {
		_ = os.Remove(tmp)
		s.log.Error("no backup can be used: rebuilding from what this agent has", "source", p.source, "err", err, "hint", conf.HintOf(err))
		return nil, nil //nolint:nilnil,nilerr // the next source is tried
	}
	r := &revival{
		Epoch: uuid.NewString(), OldEpoch: got.Epoch, NodeID: s.cluster.self(), Source: sourceBackup,
		Reason: "rebuild from the backup " + got.Generation.ID + ", index " + uitoa(got.Index) + ": " + p.reason,
	}
	if p.source == "lkg" {
		r.newer = p.recs
	}
	p.source = sourceBackup
	return r, os.Rename(tmp, s.o.DBPath)
}

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }
