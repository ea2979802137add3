package edit

import (
	"context"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// StartRollout starts a rollout: it validates d as an edit, signs the candidate and the
// revert, and commits both in one log entry. The caller has authorized d.Author.
func (e *Editor) StartRollout(context.Context, conf.RolloutDraft) (conf.Rollout, error) {
	return conf.Rollout{}, conf.Errorf(conf.CodeUnsupported, "rollouts are not built yet")
}

// MoveRollout does one action on the rollout that it names. The caller has authorized m.By.
func (e *Editor) MoveRollout(context.Context, conf.RolloutMove) error {
	return conf.Errorf(conf.CodeUnsupported, "rollouts are not built yet")
}
