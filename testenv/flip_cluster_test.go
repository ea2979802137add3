package testenv

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// TestFlipEveryFileInACluster flips single bits of every file in the data directories of a
// voter and of a sidecar, while the other servers go on, and starts the member on each. No
// value is ever wrong, at the member or at the leader, and reads are up except where the
// documentation says otherwise.
func TestFlipEveryFileInACluster(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3, 1, "CONFIG_MQTT_REISSUE=0", "CONFIG_MANAGER_LOG_LEVEL=ERROR")
	leader := c.Leader()
	leader.Patch("stt-worker", `{"whisper_model":"small.en","vad_threshold":0.6}`)
	leader.Patch("tts-worker", `{"volume_percent":80}`)
	leader.Patch("stt-worker", `{"vad_threshold":0.7}`)
	want := leader.State()
	voter := c.Followers()[0]
	sidecar := c.Nodes[len(c.Nodes)-1]
	table := mayKeepReadsDown(t)
	var workers sync.WaitGroup
	for _, n := range []*Node{voter, sidecar} {
		n.AwaitLKG(want)
		n.Stop()
		origin := filepath.Join(t.TempDir(), "origin")
		CopyDir(t, n.Dir, origin)
		flips := twoOfEach(flipsOf(t, origin, 1))
		workers.Go(func() {
			down, fallback := 0, 0
			for _, f := range flips {
				CopyDir(t, origin, n.Dir)
				flip(t, filepath.Join(n.Dir, f.file), f.offset, f.bit)
				mark := len(n.Log())
				source, err := readsAfterFlip(n.Agent, want)
				n.Kill()
				switch {
				case errors.Is(err, errNoReads) && documentedDown(t, table, origin, f):
					down++
				case err != nil:
					t.Errorf("%s: %v: %v; the agent printed\n%s", n.ID, f, err, n.Log()[mark:])
				case source == "lkg":
					fallback++
				}
			}
			if fallback == 0 {
				t.Errorf("no flip kept %s from its start: the test damages nothing", n.ID)
			}
			t.Logf("%s: %d flips, %d served by the last-known-good file, %d not served, as documented", n.ID, len(flips), fallback, down)
		})
	}
	workers.Wait()
	for _, name := range want.Names() {
		if err := want.Differs(leader.Document(name), false); err != nil {
			t.Errorf("the leader: %v", err)
		}
	}
	if h, ok := leader.Health(); !ok || h.OperationalMode != conf.ModeNormal {
		t.Errorf("the leader is not well: %+v", h)
	}
}

// twoOfEach keeps two flips of each file, of those that a seed chose where there are any.
func twoOfEach(flips []oneFlip) (out []oneFlip) {
	of := map[string]int{}
	for _, f := range slices.Backward(flips) {
		if of[f.file]++; of[f.file] <= 2 {
			out = append(out, f)
		}
	}
	return out
}
