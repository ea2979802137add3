package change

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// step is what a rollback does with one service.
type step struct {
	Service string `json:"service"`
	From    uint64 `json:"from"`    // its version now
	To      uint64 `json:"to"`      // the version of that time, 0 when it did not exist
	Version uint64 `json:"version"` // the new version, 0 with --dry-run
	Action  string `json:"action"`  // restored, deleted, kept, newer
}

const manyVersions = 1000 // as many as the agent lists

// rollbackAll rolls every service back to its values at a time, each by an
// ordinary change: its version goes up. A service that is newer stays.
func rollbackAll(ctx context.Context, a *cli.App, at time.Time, reason string, dryRun bool) error {
	role := conf.RoleWrite
	if dryRun {
		role = conf.RoleRead
	}
	c, err := a.Admin(role)
	if err != nil {
		return err
	}
	services, err := c.Services(ctx)
	if err != nil {
		return err
	}
	steps := []step{}
	for _, s := range services {
		if s.Version == 0 {
			continue
		}
		st, err := stepOf(ctx, c, s, at)
		if err != nil {
			return err
		}
		steps = append(steps, st)
	}
	for i := range steps {
		st := &steps[i]
		if dryRun || (st.Action != "restored" && st.Action != "deleted") {
			continue
		}
		d := conf.Draft{
			Service: st.Service, Op: conf.OpRestore, Restore: st.To, Expect: &st.From,
			Reason: cmp.Or(reason, "everything back to "+conf.FormatTime(at)),
		}
		if st.Action == "deleted" {
			d.Op, d.Restore = conf.OpDelete, 0
		}
		out, err := c.Do(ctx, d)
		if err != nil {
			return conf.Errorf(conf.CodeOf(err), "%s: %w", st.Service, err).
				WithHint("%d of %d services were taken back; run the same command again for the rest", i, len(steps))
		}
		st.Version = out.Version
	}
	if a.AsJSON() {
		return a.PrintJSON(steps)
	}
	for _, st := range steps {
		switch {
		case st.Action == "kept":
			a.Say("%s: as it was (version %d)", st.Service, st.From)
		case st.Action == "newer":
			a.Say("%s: it began after that time and stays; %s removes it", st.Service, cli.Runnable("holdfast delete "+st.Service))
		case st.Action == "deleted" && dryRun:
			a.Say("%s: would be deleted, as it was then", st.Service)
		case st.Action == "deleted":
			a.Say("%s: deleted, as it was then, as version %d", st.Service, st.Version)
		case dryRun:
			a.Say("%s: would go from version %d to the values of version %d", st.Service, st.From, st.To)
		default:
			a.Say("%s: has the values of version %d again, as version %d", st.Service, st.To, st.Version)
		}
	}
	return nil
}

func stepOf(ctx context.Context, c *client.Client, s conf.ServiceInfo, at time.Time) (step, error) {
	st := step{Service: s.Service, From: s.Version, Action: "newer"}
	versions, err := c.Versions(ctx, s.Service, manyVersions)
	if err != nil {
		return st, err
	}
	i := slices.IndexFunc(versions, func(v conf.Metadata) bool { // the newest first
		t, err := time.Parse(time.RFC3339Nano, v.UpdatedAt)
		return err == nil && !t.After(at)
	})
	if i < 0 {
		if n := len(versions); n > 0 && versions[n-1].Version > 1 {
			return st, conf.Errorf(conf.CodeNotFound, "the history of %s does not reach back to %s", s.Service, conf.FormatTime(at)).
				WithHint("restore a backup of that time to a file beside the cluster (holdfast backup restore), or go back less far")
		}
		return st, nil
	}
	st.To, st.Action = versions[i].Version, "restored"
	if st.To == st.From {
		st.Action = "kept"
		return st, nil
	}
	then, deletedThen, err := storedAt(ctx, c, s.Service, st.To)
	if err != nil {
		return st, err
	}
	now, deletedNow, err := storedAt(ctx, c, s.Service, st.From)
	switch {
	case err != nil:
		return st, err
	case deletedThen == deletedNow && bytes.Equal(then, now):
		st.Action = "kept"
	case deletedThen:
		st.Action = "deleted"
	}
	return st, nil
}

// storedAt returns the values of a version; deleted is true for a tombstone.
func storedAt(ctx context.Context, c *client.Client, service string, version uint64) (values []byte, deleted bool, err error) {
	got, err := c.Stored(ctx, service, version)
	if conf.CodeOf(err) == conf.CodeNotFound {
		return nil, true, nil
	}
	return got.Config, false, err
}
