package agent_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/alarm"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store"
	"github.com/holdfast-config/holdfast/testenv"
)

// diverge makes the state of a running member another one than the log makes it:
// an entry that nobody else has takes the place of the next one.
func diverge(t *testing.T, r *running) {
	t.Helper()
	ss := r.Rooms().Replicas.Current()
	r.Await("an index that the log has not reached", func() bool {
		index, term := ss.Store().Applied()
		res, _, err := ss.Store().Apply(t.Context(), []store.Entry{{Index: index + 1, Term: term, Command: &command.Audit{
			Rows: []conf.Access{{UserID: "nobody", Action: "write", Timestamp: conf.FormatTime(time.Now())}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return !res[0].Duplicate
	})
}

func TestMemberThatDiffersIsRebuilt(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"follower", "leader"} {
		t.Run(which, func(t *testing.T) {
			r, o := three(t, "CONFIG_DIGEST_EVERY", "200ms")
			var bad *running
			r[0].Await("a "+which, func() bool {
				for _, a := range r {
					if a.Rooms().Cluster.IsReadyLeader() == (which == "leader") {
						bad = a
					}
				}
				return bad != nil
			})
			var log *testenv.Transcript
			third := -1
			if which == "follower" {
				i := slices.Index(r[:], bad)
				bad.Stop()
				var again *testenv.InProcess
				again, log = startLogged(t, o[i])
				r[i] = (&running{again}).ready()
				bad = r[i]
				third = slices.IndexFunc(r[:], func(a *running) bool { return a != bad && !a.Rooms().Cluster.IsReadyLeader() })
				r[third].Stop()
			}
			was := bad.Info().NodeID
			diverge(t, bad)
			if log != nil { // two of three voters contradict each other until the third is back
				bad.Await("the alarm", func() bool { return log.Has(alarm.StatesDiffer.Text) })
				r[third] = start(t, o[third])
			}
			bad.Await("a new id", func() bool { return bad.Info().NodeID == was+"-r2" })
			bad.ready()
			for _, a := range r {
				if a != bad && a.Info().NodeID != map[*running]string{r[0]: "n1", r[1]: "n2", r[2]: "n3"}[a] {
					t.Fatalf("a good member gave its data up: %s", a.Info().NodeID)
				}
			}
			if log != nil {
				bad.Await("the ends of both alarms", func() bool {
					return log.Has(alarm.ReplicaDamaged.Text) && log.Has(alarm.ReplicaDamaged.End) && log.Has(alarm.StatesDiffer.End)
				})
			}
			bad.Await("one state", func() bool { return sameDigests(bad.status(), 3) })
			if code, body := bad.set("11"); code != http.StatusOK {
				t.Fatal(body)
			}
		})
	}
}
