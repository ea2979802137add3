package edit

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// running is the rollout of a service that runs, nil for none.
func running(cur *conf.Record) *conf.Rollout {
	if cur == nil || cur.Staged == nil {
		return nil
	}
	return cur.Staged.Rollout
}

// active is the error for a change of a service while a rollout of it runs, which rollout,
// as of a Draft, does not replace.
func active(cur *conf.Record, rollout string) error {
	if ro := running(cur); ro != nil && rollout != conf.RolloutReplace {
		return conf.RolloutActive(cur.Service, ro.ID)
	}
	return nil
}

// mayChange is active for a service as the log has it, of which cur may be an earlier state.
func mayChange(ctx context.Context, e *Editor, cur *conf.Record, rollout string) error {
	if active(cur, rollout) == nil {
		return nil
	}
	if err := e.o.Confirm(ctx); err != nil {
		return err
	}
	return active(e.o.Records.Record(cur.Service), rollout)
}

// StartRollout starts a rollout: it validates d as an edit, signs the candidate and the
// revert, and commits both in one log entry. The caller has authorized d.Author, and
// completed the plan. With d.DryRun nothing is committed.
func (e *Editor) StartRollout(ctx context.Context, d conf.RolloutDraft) (conf.Rollout, error) {
	who := conf.Principal{Name: d.Author, Role: conf.RoleWrite}
	if err := cmp.Or(e.authorize(who, d.Reason, d.DryRun), conf.CheckService(d.Service)); err != nil {
		return conf.Rollout{}, err
	}
	if d.Op != conf.OpPut && d.Op != conf.OpPatch || d.Schema != nil {
		return conf.Rollout{}, conf.Errorf(conf.CodeUsage, "a rollout changes values, and nothing else").
			WithHint("change schemas and secrets for all at once")
	}
	doc := d.Decoded
	if doc == nil {
		var err error
		if doc, err = conf.ParseObject(d.Document, conf.MaxDocument); err != nil {
			return conf.Rollout{}, err
		}
	}
	unlock, err := e.locks.lock(ctx, d.Service)
	if err != nil {
		return conf.Rollout{}, err
	}
	defer unlock()

	ids := requestIDs(who, d.Draft)
	for try := 1; ; try++ {
		ro, err := tryRollout(ctx, e, who, d, doc, ids)
		if conf.CodeOf(err) != conf.CodeConflict || try == tries || d.Expect != nil {
			return ro, err
		}
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Rollout{}, err
		}
	}
}

// tryRollout is one attempt of StartRollout. The caller holds the service's lock.
func tryRollout(ctx context.Context, e *Editor, who conf.Principal, d conf.RolloutDraft, doc map[string]any, ids []string) (conf.Rollout, error) {
	if ro, done, err := startedBefore(ctx, e, d, ids); done || err != nil {
		return ro, err
	}
	cur := e.o.Records.Record(d.Service)
	if canStart(cur, d) != nil {
		if err := e.o.Confirm(ctx); err != nil {
			return conf.Rollout{}, err
		}
		if ro, done, err := startedBefore(ctx, e, d, ids); done || err != nil { // Confirm may have applied it
			return ro, err
		}
		cur = e.o.Records.Record(d.Service)
		if err := canStart(cur, d); err != nil {
			return conf.Rollout{}, err
		}
	}
	now := e.o.Now()
	u, secrets, err := e.change(ctx, cur, d.Draft, doc, nil, now)
	switch {
	case err != nil:
		return conf.Rollout{}, err
	case len(secrets) > 0:
		return conf.Rollout{}, secretsInRollout(d.Service, secrets)
	case unchanged(cur, u):
		return conf.Rollout{}, conf.Errorf(conf.CodeInvalid, "%s has these values already: there is nothing to roll out", d.Service).
			WithHint("change a value; or write the same values for all, as a new version, with ?rollout=none")
	}
	c, err := newRollout(e, cur, d, u, now)
	if err != nil {
		return conf.Rollout{}, err
	}
	c.ID = ids[0]
	ro := conf.Rollout{
		ID: c.Rollout, Candidate: c.Begin.Candidate, Revert: c.Begin.Revert, Plan: d.Plan, Salt: c.Begin.Salt, StartedAt: c.At, StartedBy: c.By,
		Reason: c.Reason, StepAt: c.At, Targets: []conf.Target{d.Target},
	}
	if d.DryRun {
		return ro, nil
	}
	if err := propose(ctx, e, c); err != nil {
		return conf.Rollout{}, err
	}
	if is := running(e.o.Records.Record(d.Service)); is != nil && is.ID == ro.ID {
		return *is, nil
	}
	return ro, nil
}

// newRollout returns the command that starts a rollout of u, which has the candidate's
// number and signature, on top of cur.
func newRollout(e *Editor, cur *conf.Record, d conf.RolloutDraft, u command.Update, now time.Time) (*command.Rollout, error) {
	candidate := conf.SignedVersion{
		Version: u.Version, Values: u.Values, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt, Signature: u.Signature, KeyID: u.KeyID,
		VersionSignature: u.VersionSignature,
	}
	at, err := conf.ParseTime(u.IssuedAt)
	if err != nil {
		return nil, err
	}
	// Signed as the version after the candidate, a microsecond later: receivers that see no
	// signed version go on to it.
	after := *cur
	after.Version, after.Staged = u.Version, nil
	r := e.sign(&after, cur.Values, cur.Config, false, at.Add(time.Microsecond))
	revert := conf.SignedVersion{
		Version: r.Version, Values: r.Values, Config: r.Config, Checksum: r.Checksum, IssuedAt: r.IssuedAt, Signature: r.Signature, KeyID: r.KeyID,
		VersionSignature: r.VersionSignature,
	}
	salt, id := d.Salt, make([]byte, 11)
	if _, err := rand.Read(id); err != nil {
		return nil, conf.Errorf(conf.CodeInternal, "no random numbers: %w", err)
	}
	if salt == "" {
		salt = hex.EncodeToString(id[3:])
	}
	target := d.Target
	c := &command.Rollout{
		Epoch: e.o.Records.Epoch(), At: conf.FormatTime(now), By: d.Author, Reason: d.Reason, Action: command.RolloutStart, Service: d.Service,
		Rollout: fmt.Sprintf("%s-%d-%x", d.Service, candidate.Version, id[:3]), Candidate: candidate.Version, Target: &target,
		Begin: &command.RolloutBegin{Prev: cur.Version, Candidate: candidate, Revert: revert, Plan: d.Plan, Salt: salt},
	}
	c.Audit = []conf.Access{rolloutRow(c)}
	return c, nil
}

// rolloutRow is the row of the access log for a command.
func rolloutRow(c *command.Rollout) conf.Access {
	row := conf.Access{
		UserID: c.By, Action: "write", Service: c.Service, Success: true, Reason: "rollout " + c.Action + " " + c.Rollout, Timestamp: c.At,
	}
	if c.Reason != "" {
		row.Reason += ": " + c.Reason
	}
	return row
}

// canStart checks what a rollout needs of the current record.
func canStart(cur *conf.Record, d conf.RolloutDraft) error {
	if err := expect(cur, d.Draft); err != nil {
		return err
	}
	if err := active(cur, ""); err != nil {
		return err
	}
	if !cur.Exists() {
		return conf.Errorf(conf.CodeInvalid, "%s has no configuration that a rollout could go back to", d.Service).
			WithHint("write its first version for all, with ?rollout=none")
	}
	return nil
}

func secretsInRollout(service string, secrets []newSecret) error {
	e := conf.Errorf(conf.CodeInvalid, "%s of %s is a secret, and secrets do not go out in steps", secrets[0].key, service).
		WithHint("leave it out, and set it for all: holdfast secret set %s %s", service, secrets[0].key)
	for _, s := range secrets {
		e.Details = append(e.Details, conf.FieldError{Key: s.key, Message: "is a secret, which a rollout does not change"})
	}
	return e
}

// startedBefore returns the rollout that the same request has started before.
func startedBefore(ctx context.Context, e *Editor, d conf.RolloutDraft, ids []string) (conf.Rollout, bool, error) {
	if d.RequestID == "" {
		return conf.Rollout{}, false, nil
	}
	out, found, err := e.replay(ctx, ids, d.Service)
	if !found || err != nil {
		return conf.Rollout{}, found, err
	}
	if ro := running(e.o.Records.Record(d.Service)); ro != nil && ro.Candidate.Version == out.Version {
		return *ro, true, nil
	}
	page, err := e.o.Archive.Rollouts(ctx, d.Service, conf.KeepRollouts+1, 0)
	if err != nil {
		return conf.Rollout{}, true, err
	}
	for _, end := range page.Results {
		if end.Rollout.Candidate.Version == out.Version {
			return end.Rollout, true, nil
		}
	}
	return conf.Rollout{}, true, conf.Errorf(conf.CodeInvalid, "this Idempotency-Key was used for another request").
		WithHint("use a new key for each change")
}

// MoveRollout does one action on the rollout that it names. The caller has authorized m.By.
func (e *Editor) MoveRollout(ctx context.Context, m conf.RolloutMove) error {
	who := conf.Principal{Name: m.By, Role: conf.RoleWrite}
	if err := cmp.Or(e.authorize(who, m.Reason, false), conf.CheckService(m.Service)); err != nil {
		return err
	}
	id := requestID(who, m.RequestID)
	if id != "" {
		if _, found, err := e.replay(ctx, []string{id}, m.Service); found || err != nil {
			return err
		}
	}
	ro := running(e.o.Records.Record(m.Service))
	if ro == nil || ro.ID != m.ID {
		if err := e.o.Confirm(ctx); err != nil {
			return err
		}
		if ro = running(e.o.Records.Record(m.Service)); ro == nil || ro.ID != m.ID {
			return notRunning(ctx, e, m)
		}
	}
	c := &command.Rollout{
		ID: id, Epoch: e.o.Records.Epoch(), At: conf.FormatTime(e.o.Now()), By: m.By, Reason: m.Reason, Action: m.Action, Service: m.Service,
		Rollout: m.ID, Candidate: ro.Candidate.Version,
	}
	switch m.Action {
	case conf.RolloutAdvance:
		target := m.Target
		c.Step, c.Target = m.Step, &target
	case conf.RolloutPromote:
		c.Step, c.Force = m.Step, m.Force
	case conf.RolloutRollback, conf.RolloutPause, conf.RolloutResume:
	default:
		return conf.Errorf(conf.CodeUsage, "a rollout has no action %q", m.Action).
			WithHint("use one of %s", strings.Join([]string{conf.RolloutPromote, conf.RolloutPause, conf.RolloutResume, "abort"}, ", "))
	}
	c.Audit = []conf.Access{rolloutRow(c)}
	return propose(ctx, e, c)
}

// notRunning is the error for a rollout that ended, or never was.
func notRunning(ctx context.Context, e *Editor, m conf.RolloutMove) error {
	page, err := e.o.Archive.Rollouts(ctx, m.Service, conf.KeepRollouts+1, 0)
	if err != nil {
		return err
	}
	for _, end := range page.Results {
		if end.Rollout.ID == m.ID {
			c := conf.Errorf(conf.CodeConflict, "the rollout %s does not run: it is %s", m.ID, end.State).
				WithHint("holdfast rollout status %s shows how it ended", m.ID)
			if cur := e.o.Records.Record(m.Service); cur != nil {
				c.Current = cur.Version
			}
			return c
		}
	}
	return conf.NoRollout(m.ID)
}
