package audit

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// maxAhead is how far a row of another member may be ahead of the leader's clock.
const maxAhead = 5 * time.Minute

// What each member may have the leader write, in bytes. A member that is over it keeps its
// rows, and sends them again later.
const (
	reportedPerSecond = 64 << 10
	reportedAtOnce    = 8 << 20
)

// reportedSize is about what a batch takes in the log and in the database.
func reportedSize(b *command.Audit) int {
	data, err := json.Marshal(b)
	if err != nil {
		return reportedAtOnce
	}
	return len(data)
}

// QueueID names the queue of a member in the database. A later incarnation of a server
// continues the queue of the earlier one. A member that is not a server keeps its id:
// it must not be able to speak for another queue.
func QueueID(node string, server bool, source string) string {
	if server {
		node, _ = conf.ParseIncarnation(node)
		node = node[:min(len(node), conf.MaxNodeID-len("-r999999999"))] // the part that later incarnations of a long id share
	}
	return node + "/" + source
}

// ClampTimestamps sets rows that are dated in the future to now: a row of a member
// whose clock is years ahead would be the newest one, and not be pruned, for years.
func ClampTimestamps(rows []conf.Access, now time.Time) {
	for i := range rows {
		row := &rows[i]
		if t, err := conf.ParseTime(row.Timestamp); err != nil || !t.After(now.Add(maxAhead)) {
			continue
		}
		note := " (its agent's clock said " + row.Timestamp + ")"
		row.Reason = strings.ToValidUTF8(row.Reason[:min(len(row.Reason), maxField-len(note))], "") + note
		row.Timestamp = conf.FormatTime(now)
	}
}

// actions are those of the seed.
var actions = map[string]bool{"read": true, "write": true, "reveal_secret": true, "unauthorized": true}

// CheckReported rejects rows of another member that no agent writes.
func CheckReported(b *command.Audit) error {
	if b.Source == "" || b.Seq == 0 || len(b.Source) > conf.MaxName || len(b.Rows) > maxBatch {
		return conf.Errorf(conf.CodeMalformed, "a batch of the access log needs a queue and a number, and has at most %d rows", maxBatch)
	}
	for _, row := range b.Rows {
		if !actions[row.Action] {
			return conf.Errorf(conf.CodeMalformed, "a row of the access log has the action %q", row.Action)
		}
		if t, err := conf.ParseTime(row.Timestamp); err != nil || conf.FormatTime(t) != row.Timestamp {
			return conf.Errorf(conf.CodeMalformed, "a row of the access log has the time %q", row.Timestamp)
		}
	}
	return nil
}
