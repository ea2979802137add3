package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// patch changes one place of one file of the product. It fails the build when the place is
// not there, so that a test never runs the honest build under the name of a bad one.
type patch struct{ file, old, new string }

// evilSwitch names the file in whose presence a bad build is bad: before, it can join.
const evilSwitch = "HOLDFAST_TEST_EVIL"

// knownBad are builds of agents that break their word towards the other members.
var knownBad = map[string][]patch{
	// A sidecar whose responses to entries and snapshots carry a higher term, and which
	// calls elections of its own.
	"higher-term": {
		{
			"replication/raftguard/requestfilter.go", "			rpc.RespChan <- r // it has room for one", `			if _, err := os.Stat(os.Getenv("` + evilSwitch + `")); err == nil {
				switch req := rpc.Command.(type) {
				case *raft.AppendEntriesRequest:
					if a, ok := r.Response.(*raft.AppendEntriesResponse); ok {
						a.Term, a.Success = max(a.Term, req.Term)+1, false
						head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1"), Addr: req.Addr}
						go func() {
							to := raft.ServerAddress(req.Addr)
							_ = f.RequestVote("", to, &raft.RequestVoteRequest{RPCHeader: head, Term: a.Term, LastLogIndex: 1 << 40, LastLogTerm: a.Term, LeadershipTransfer: true}, &raft.RequestVoteResponse{})
							_ = f.TimeoutNow("", to, &raft.TimeoutNowRequest{RPCHeader: head}, &raft.TimeoutNowResponse{})
						}()
					}
				case *raft.InstallSnapshotRequest:
					if a, ok := r.Response.(*raft.InstallSnapshotResponse); ok {
						a.Term = req.Term + 1
					}
				}
			}
			rpc.RespChan <- r // it has room for one`,
		},
		{"replication/raftguard/requestfilter.go", `	"log/slog"`, "	\"log/slog\"\n	\"os\""},
		{"replication/transport/raftlayer.go", "id.Role != pki.RoleServer {", `id.Role != pki.RoleServer && id.NodeID == "" {`},
	},
	// The next version of a service is the one above what is stable, also where a rollout has
	// given that number to its revert.
	"no-floor": {
		{"replication/conf/rollout.go", "	return max(r.Version, r.Staged.Floor)", "	return r.Version"},
	},
	// A member whose report says that its build knows other commands than all others, that
	// its log is far ahead, and that it is everything else that a report can say.
	"false-report": {
		{"agent/backend/health.go", "	return r\n}\n\n// maxNamed", `	r.Features, _ = strconv.ParseUint(os.Getenv("HOLDFAST_TEST_KNOWS"), 10, 64)
	r.LastTerm, r.LastIndex, r.Applied, r.LastContact, r.Full = 1<<62, 1<<62, 1<<62, 1<<62, true
	return r
}

// maxNamed`},
		{"agent/backend/health.go", `	"strings"`, "	\"os\"\n	\"strconv\"\n	\"strings\""},
	},
}

// KnownBad builds the agent with the faults of that name, and returns its path.
func KnownBad(t testing.TB, name string) string {
	t.Helper()
	return BinaryOf(t, Root(), name, "./cmd/holdfast", "-overlay", Overlay(t, name))
}

// Overlay makes a file for -overlay of the go command, with the faults of that name.
func Overlay(t testing.TB, name string) string {
	t.Helper()
	dir := t.TempDir()
	text := map[string]string{}
	for _, p := range knownBad[name] {
		if text[p.file] == "" {
			data, err := os.ReadFile(filepath.Join(Root(), p.file))
			if err != nil {
				t.Fatal(err)
			}
			text[p.file] = string(data)
		}
		if strings.Count(text[p.file], p.old) != 1 {
			t.Fatalf("the bad build %s changes a place of %s that is not there once: %q", name, p.file, p.old)
		}
		text[p.file] = strings.Replace(text[p.file], p.old, p.new, 1)
	}
	if len(text) == 0 {
		t.Fatalf("no bad build %q", name)
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, content := range text {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(Root(), file)] = path
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
