package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	oldBuild = command.BaselineFeatures
	evil     = uint64(1) << 63
)

// newer is a change that the first build cannot apply, older one that all can.
var newer, older command.Command = &command.Keyring{}, &command.Edit{}

func voters(nodes ...string) map[string]bool {
	out := map[string]bool{}
	for _, n := range nodes {
		out[n] = true
	}
	return out
}

func refused(t *testing.T, f *Features, c command.Command, v map[string]bool, now time.Time, by string) {
	t.Helper()
	err := f.Check(c, "n1", v, now)
	if by == "" && err != nil {
		t.Errorf("%v", err)
	}
	if by != "" && (conf.CodeOf(err) != conf.CodeUnsupported || !strings.Contains(err.Error(), "member "+by) || !strings.Contains(conf.HintOf(err), "cluster remove "+by)) {
		t.Errorf("%v; %s: want a refusal that names %s", err, conf.HintOf(err), by)
	}
}

// TestUnaskedVoterIsTheOldestBuild: the first upgraded member of three leads, and has
// asked nobody yet. What it wrote would stop the two others, and the quorum with them.
func TestUnaskedVoterIsTheOldestBuild(t *testing.T) {
	t.Parallel()
	f, v, now := newFeatures(), voters("n1", "n2", "n3"), time.Now()
	refused(t, f, newer, v, now, "n2")
	refused(t, f, older, v, now, "")
	refused(t, f, newer, voters("n1"), now, "")
	refused(t, f, newer, nil, now, "") // the log is only being opened
	f.Set("n2", "2", f.Own(), now)
	refused(t, f, newer, v, now, "n3")
	f.Set("n3", "2", f.Own(), now)
	refused(t, f, newer, v, now, "")
	refused(t, f, newer, voters("n1", "n2", "n3", "n4"), now, "n4") // a new voter is asked first
	f.Set("n3", "1", 0, now)
	refused(t, f, newer, v, now, "n3")
	f.Set("n3", "2", f.Own(), now)
	refused(t, f, newer, v, now.Add(answerAge), "n2") // answers of an earlier leadership are void
	f.Reset()
	refused(t, f, newer, v, now, "n2")
}

// TestSilentVoter: a voter that is gone holds nothing up for long, while a majority
// of the voters is known to apply the change.
func TestSilentVoter(t *testing.T) {
	t.Parallel()
	f, v, now := newFeatures(), voters("n1", "n2", "n3"), time.Now()
	f.Set("n2", "2", f.Own(), now)
	f.SetSilent("n3", now)
	refused(t, f, newer, v, now, "n3")
	now = now.Add(silentAfter)
	f.Set("n2", "2", f.Own(), now)
	refused(t, f, newer, v, now, "n3") // not asked again
	f.SetSilent("n3", now)
	refused(t, f, newer, v, now, "")
	refused(t, f, newer, voters("n1", "n3"), now, "n3") // no majority without it
	f.SetSilent("n2", now)
	f.SetSilent("n2", now.Add(answerAge))
	f.SetSilent("n3", now.Add(answerAge))
	refused(t, f, newer, v, now.Add(answerAge), "n2")
	f.Set("n3", "1", oldBuild, now)
	refused(t, f, newer, v, now, "n3") // it came back, and is an older one
}

// TestNonVoterGatesNothing: what a sidecar reports of its build is its own affair.
func TestNonVoterGatesNothing(t *testing.T) {
	t.Parallel()
	f, now := newFeatures(), time.Now()
	v := voters("n1", "n2")
	v["sidecar"] = false
	f.Set("n2", "2", f.Own(), now)
	f.Set("sidecar", "?", evil, now)
	for _, c := range []command.Command{newer, older} {
		refused(t, f, c, v, now, "")
	}
	v["sidecar"] = true // a report counts while its member votes
	refused(t, f, older, v, now, "sidecar")
	v["sidecar"] = false
	refused(t, f, older, v, now, "")
	delete(v, "sidecar")
	refused(t, f, newer, v, now, "")
}
