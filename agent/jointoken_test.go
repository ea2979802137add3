package agent_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
	"github.com/holdfast-config/holdfast/testenv"
)

// The agent that starts a cluster keeps a token for each role where it is told to.
// What an earlier cluster left there lets nobody in, and is replaced.
func TestJoinTokensAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept, stale := filepath.Join(dir, "server"), "HF1"+strings.Repeat("0", 64)+"::0123456789abcdef:"+strings.Repeat("A", 43)
	if err := os.WriteFile(kept, []byte(stale), 0o644); err != nil {
		t.Fatal(err)
	}
	o := testenv.Options(t, map[string]string{"CONFIG_SERVER_TOKEN_PATH": kept})
	r := start(t, o).ready()
	first := map[string]string{}
	for role, path := range map[string]string{"server": kept, "sidecar": o.SidecarTokenPath} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := transport.ParseToken(strings.TrimSpace(string(data)))
		if err != nil || tok.String() == stale || tok.CAHash != pki.HashCA(r.Rooms().Cluster.Port.Identity().CAs[0]) {
			t.Errorf("%s: the file holds no token of this cluster: %v", role, err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", role, fi.Mode(), err)
		}
		list, err := r.Rooms().Members.Tokens(t.Context())
		if err != nil || !slices.ContainsFunc(list, func(i conf.JoinTokenInfo) bool { return i.ID == tok.ID && i.Role == role && i.Uses == 0 }) {
			t.Errorf("%s: the token is not in the list: %+v, %v", role, list, err)
		}
		first[path] = string(data)
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, "join-token")); err == nil {
		t.Error("the token for servers is kept in the data directory, too")
	}
	r.Stop()

	start(t, o).ready() // and stay the same
	for path, was := range first {
		if data, err := os.ReadFile(path); err != nil || string(data) != was {
			t.Errorf("%s changed with a restart: %v", path, err)
		}
	}

	o = testenv.Options(t, map[string]string{"CONFIG_SERVER_TOKEN_PATH": "none", "CONFIG_SIDECAR_TOKEN_PATH": "none"})
	start(t, o).ready()
	if found, _ := filepath.Glob(filepath.Join(o.DataDir, "join-token*")); found != nil {
		t.Errorf("kept although it was turned off: %v", found)
	}
}
