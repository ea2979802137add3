package tables

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Columns of staged.
const (
	StagedFloor   = 1
	StagedRollout = 2 // id of the one that runs, NULL for none
)

// Roles of a row of staged_versions.
const (
	RoleCandidate = "candidate"
	RoleRevert    = "revert"
	RoleKept      = "kept"
)

// Columns of rollouts.
const (
	rolloutService = iota
	rolloutID
	rolloutIdx
	rolloutEpoch
	rolloutCandidate
	rolloutRevert
	rolloutPlan
	rolloutSalt
	rolloutStarted
	rolloutStartedBy
	rolloutReason
	RolloutStep
	RolloutStepAt
	RolloutStepIdx
	RolloutTargets
	RolloutPaused
	RolloutState // conf.RolloutRunning also while it is paused
	RolloutEndReason
	RolloutEndedBy
	RolloutEndedAt
)

// SignedRow is the row of staged_versions for v. The documents keep every byte.
func SignedRow(service, role string, v *conf.SignedVersion) []any {
	return []any{
		service, role, int64(v.Version), string(v.Values), string(v.Config), v.Checksum, v.IssuedAt, //nolint:gosec // fits
		Signatures(v.Signature, v.VersionSignature), v.KeyID,
	}
}

// SignedOf is a row of staged_versions.
func SignedOf(r *Row) (role string, v *conf.SignedVersion) {
	v = &conf.SignedVersion{
		Version: UintOf(r.Vals[2]), Values: json.RawMessage(r.Text(3)), Config: json.RawMessage(r.Text(4)),
		Checksum: r.Text(5), IssuedAt: r.Text(6), KeyID: r.Text(8),
	}
	v.Signature, v.VersionSignature, _ = strings.Cut(r.Text(7), " ")
	return r.Text(1), v
}

// RolloutRow is the row of rollouts for ro, which runs, and began at the log index idx.
func RolloutRow(service, epoch string, idx uint64, ro *conf.Rollout) ([]any, error) {
	plan, err := json.Marshal(ro.Plan)
	if err != nil {
		return nil, err
	}
	targets, err := TargetsJSON(ro.Targets)
	return []any{
		service, ro.ID, int64(idx), epoch, int64(ro.Candidate.Version), int64(ro.Revert.Version), string(plan), ro.Salt, //nolint:gosec // fits
		ro.StartedAt, Null(ro.StartedBy), Null(ro.Reason), int64(ro.Step), ro.StepAt, int64(ro.StepIdx), targets, Null(ro.Paused), //nolint:gosec // fits
		conf.RolloutRunning, nil, nil, nil,
	}, err
}

// TargetsJSON is what rollouts.targets_json has.
func TargetsJSON(targets []conf.Target) (string, error) {
	data, err := json.Marshal(targets)
	return string(data), err
}

// RolloutOf is the rollout of a row, without its documents and their signatures.
func RolloutOf(r *Row) (conf.RolloutEnd, error) {
	e := conf.RolloutEnd{
		Service: r.Text(rolloutService), Epoch: r.Text(rolloutEpoch), State: r.Text(RolloutState),
		Reason: r.Text(RolloutEndReason), By: r.Text(RolloutEndedBy), At: r.Text(RolloutEndedAt),
		Rollout: conf.Rollout{
			ID: r.Text(rolloutID), Salt: r.Text(rolloutSalt), StartedAt: r.Text(rolloutStarted), StartedBy: r.Text(rolloutStartedBy),
			Reason: r.Text(rolloutReason), Step: int(IntOf(r.Vals[RolloutStep])), StepAt: r.Text(RolloutStepAt), StepIdx: UintOf(r.Vals[RolloutStepIdx]),
			Paused: r.Text(RolloutPaused),
		},
	}
	e.Rollout.Candidate.Version, e.Rollout.Revert.Version = UintOf(r.Vals[rolloutCandidate]), UintOf(r.Vals[rolloutRevert])
	if e.State == conf.RolloutRunning && e.Rollout.Paused != "" {
		e.State, e.Reason = conf.RolloutPaused, e.Rollout.Paused
	}
	if err := json.Unmarshal([]byte(r.Text(rolloutPlan)), &e.Rollout.Plan); err != nil {
		return e, Corrupt("the plan of the rollout %s: %w", e.Rollout.ID, err)
	}
	if err := json.Unmarshal([]byte(r.Text(RolloutTargets)), &e.Rollout.Targets); err != nil {
		return e, Corrupt("the targets of the rollout %s: %w", e.Rollout.ID, err)
	}
	return e, nil
}

const (
	sqlSignedOf  = "SELECT service, role, version, values_json, config_json, checksum, issued_at, signature, key_id, digest FROM staged_versions WHERE service = ?"
	sqlOldestEnd = "SELECT id FROM rollouts WHERE service = ? AND state <> 'running' ORDER BY idx DESC LIMIT -1 OFFSET ?"
)

// OldEnds are the rollouts of a service that ended, but for the newest keep of them.
func OldEnds(ctx context.Context, q Querier, service string, keep int) ([]string, error) {
	return Column[string](ctx, q, sqlOldestEnd, service, keep)
}

// ReadStaged adds to rec what there is of its service beside the stable version.
func ReadStaged(ctx context.Context, q Querier, dig *Digester, rec *conf.Record) error {
	row, err := Read(ctx, q, dig, Staged, rec.Service)
	if err != nil || row == nil {
		return err
	}
	versions := map[string]*conf.SignedVersion{}
	err = each(ctx, q, dig, StagedVersions, false, func(r *Row) error {
		if r.Text(0) != rec.Service {
			return Corrupt("the index of %s has a version of another service under %s", StagedVersions.Name, rec.Service)
		}
		role, v := SignedOf(r)
		versions[role] = v
		return nil
	}, sqlSignedOf, rec.Service)
	if err != nil {
		return err
	}
	var running *conf.RolloutEnd
	if id := row.Text(StagedRollout); id != "" {
		r, err := Read(ctx, q, dig, Rollouts, rec.Service, id)
		if err != nil {
			return err
		}
		if r == nil {
			return Corrupt("the rollout %s is missing", id)
		}
		e, err := RolloutOf(r)
		if err != nil {
			return err
		}
		running = &e
	}
	rec.Staged, err = staged(rec, UintOf(row.Vals[StagedFloor]), running, versions)
	return err
}

// staged puts together what the rows have.
func staged(rec *conf.Record, floor uint64, running *conf.RolloutEnd, versions map[string]*conf.SignedVersion) (*conf.Staged, error) {
	s := &conf.Staged{Floor: max(floor, rec.Version), Kept: versions[RoleKept]}
	if running != nil {
		ro := &running.Rollout
		c, r := versions[RoleCandidate], versions[RoleRevert]
		if c == nil || r == nil || c.Version != ro.Candidate.Version || r.Version != ro.Revert.Version {
			return nil, Corrupt("the versions of the rollout %s are missing", ro.ID)
		}
		ro.Candidate, ro.Revert = *c, *r
		s.Rollout = ro
	}
	return s, nil
}

// StagedRows have what the tables of rollouts have for all records.
type StagedRows struct {
	floors   map[string]uint64
	running  map[string]*conf.RolloutEnd
	versions map[string]map[string]*conf.SignedVersion
}

// AllStaged reads what there is of all services beside the stable versions.
func AllStaged(ctx context.Context, q Querier, dig *Digester) (*StagedRows, error) {
	all := &StagedRows{floors: map[string]uint64{}, running: map[string]*conf.RolloutEnd{}, versions: map[string]map[string]*conf.SignedVersion{}}
	ids := map[string]string{}
	err := Each(ctx, q, dig, Staged, func(r *Row) error {
		all.floors[r.Text(0)], ids[r.Text(0)] = UintOf(r.Vals[StagedFloor]), r.Text(StagedRollout)
		return nil
	})
	if err != nil || len(all.floors) == 0 {
		return all, err
	}
	err = Each(ctx, q, dig, StagedVersions, func(r *Row) error {
		role, v := SignedOf(r)
		if all.versions[r.Text(0)] == nil {
			all.versions[r.Text(0)] = map[string]*conf.SignedVersion{}
		}
		all.versions[r.Text(0)][role] = v
		return nil
	})
	if err != nil {
		return all, err
	}
	for service, id := range ids {
		if id == "" {
			continue
		}
		r, err := Read(ctx, q, dig, Rollouts, service, id)
		if err != nil {
			return all, err
		}
		if r == nil {
			return all, Corrupt("the rollout %s is missing", id)
		}
		e, err := RolloutOf(r)
		if err != nil {
			return all, err
		}
		all.running[service] = &e
	}
	return all, nil
}

// Add adds to rec what there is of its service.
func (a *StagedRows) Add(rec *conf.Record) (err error) {
	if floor, ok := a.floors[rec.Service]; ok {
		rec.Staged, err = staged(rec, floor, a.running[rec.Service], a.versions[rec.Service])
	}
	return err
}
