package observer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

// testOptions are those of an observer on ports and in a directory of its own.
func testOptions(t *testing.T, env map[string]string) options.Options {
	t.Helper()
	all := map[string]string{
		"CONFIG_DATA_DIR": filepath.Join(t.TempDir(), "data"), "CONFIG_LOCAL_ADDR": "127.0.0.1:0", "CONFIG_LOCAL_SOCKET": "none",
	}
	for k, v := range env {
		all[k] = v
	}
	o := options.Defaults()
	if err := o.Resolve(nil, func(k string) (string, bool) { v, ok := all[k]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	return o
}

// The file of learned keys is believed as far as its MAC is right and the keys that
// are trusted now prove what stands in it. Whatever is wrong with it, the observer
// starts.
func TestLearnedKeysFile(t *testing.T) {
	const other = 4
	var pub [5]ed25519.PublicKey
	var private [5]ed25519.PrivateKey
	for i := range pub {
		var err error
		if pub[i], private[i], err = ed25519.GenerateKey(nil); err != nil {
			t.Fatal(err)
		}
	}
	key := func(i, by int, state, until string) conf.KeyInfo {
		return conf.KeyInfo{Kind: conf.KeySigning, ID: seal.KeyID(pub[i]), Public: seal.EncodePublic(pub[i]), State: state, NotAfter: until, Proof: seal.ProveKey(private[by], pub[i])}
	}
	soon, past := conf.FormatTime(time.Now().Add(time.Hour)), conf.FormatTime(time.Now().Add(-time.Hour))
	chain := []conf.KeyInfo{key(1, 0, conf.KeyExpired, past), key(2, 1, conf.KeyOld, soon), key(3, 2, conf.KeyActive, "")}

	// open starts an observer on dir, which holds what was learned in it so far, and gives
	// the keys that it trusts beside that of its setting.
	open := func(t *testing.T, dir options.Options, root int, learn []conf.KeyInfo) (trusted []int, log string) {
		t.Helper()
		o := testOptions(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": seal.EncodePublic(pub[root]), "CONFIG_OBSERVE_URL": "mqtt://127.0.0.1:1",
		})
		o.DataDir, o.LKGPath, o.EnvFile = dir.DataDir, dir.LKGPath, dir.EnvFile
		var out bytes.Buffer
		b, err := New(o, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			t.Fatal(err)
		}
		defer b.held.Close()
		b.receiver.MergeKeyring(learn)
		b.learned.save(b.receiver)
		for _, k := range b.receiver.Trusted() {
			if i := slices.IndexFunc(pub[:], func(o ed25519.PublicKey) bool { return o.Equal(k) }); i != root {
				trusted = append(trusted, i)
			}
		}
		slices.Sort(trusted)
		return trusted, out.String()
	}
	file := func(o options.Options) string { return filepath.Join(o.DataDir, "learned-keys.json") }
	learned := func(t *testing.T) options.Options {
		t.Helper()
		o := testOptions(t, nil)
		if got, _ := open(t, o, 0, chain); !slices.Equal(got, []int{2, 3}) {
			t.Fatalf("learned %v", got)
		}
		if i, err := os.Stat(file(o)); err != nil || i.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", i, err)
		}
		return o
	}
	again := func(t *testing.T, o options.Options, root int, want ...int) string {
		t.Helper()
		got, log := open(t, o, root, nil)
		if !slices.Equal(got, want) {
			t.Errorf("it trusts %v, want %v", got, want)
		}
		return log
	}

	t.Run("restart", func(t *testing.T) { again(t, learned(t), 0, 2, 3) })
	t.Run("trust in the middle of the chain", func(t *testing.T) { again(t, learned(t), 2, 3) })
	t.Run("trust at its end", func(t *testing.T) {
		o := learned(t)
		again(t, o, 3)
		again(t, o, 0) // what the key of meanwhile did not prove is gone
	})
	t.Run("another trust", func(t *testing.T) {
		o := learned(t)
		if log := again(t, o, other); !strings.Contains(log, "is dropped") {
			t.Errorf("it says %q", log)
		}
		again(t, o, 0) // they do not come back by the file
	})
	for name, change := range map[string]func(string) string{
		"a retired key made good": func(s string) string { return strings.Replace(s, conf.KeyExpired, conf.KeyActive, 1) },
		"torn":                    func(s string) string { return s[:len(s)/2] },
		"empty":                   func(string) string { return "" },
		"no MAC":                  func(s string) string { return strings.Replace(s, `"hmac"`, `"xmac"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			o := learned(t)
			data, err := os.ReadFile(file(o))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file(o), []byte(change(string(data))), 0o600); err != nil {
				t.Fatal(err)
			}
			if log := again(t, o, 0); !strings.Contains(log, "are not believed") || !strings.Contains(log, "level=WARN") {
				t.Errorf("it says %q", log)
			}
			if got, _ := open(t, o, 0, chain); !slices.Equal(got, []int{2, 3}) {
				t.Errorf("it cannot learn anew: %v", got)
			}
			again(t, o, 0, 2, 3)
		})
	}
	t.Run("a directory in its place", func(t *testing.T) {
		o := testOptions(t, nil)
		if err := os.MkdirAll(file(o), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, log := open(t, o, 0, chain); !slices.Equal(got, []int{2, 3}) || !strings.Contains(log, "a restart forgets them") {
			t.Errorf("trusts %v, says %q", got, log)
		}
	})
	t.Run("a grace that ended meanwhile", func(t *testing.T) {
		o := testOptions(t, nil)
		open(t, o, 0, chain)
		set := learnedKeys{path: file(o)}
		data, err := os.ReadFile(o.EnvFile)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(data), "\n") {
			if text, ok := strings.CutPrefix(line, "LKG_HMAC_KEY_BASE64="); ok {
				mac, err := base64.StdEncoding.DecodeString(strings.Trim(text, `"'`))
				if err != nil {
					t.Fatal(err)
				}
				set.macs = [][]byte{mac}
			}
		}
		ended := slices.Clone(chain)
		ended[1].NotAfter = past
		if err := set.write(ended); err != nil {
			t.Fatal(err)
		}
		again(t, o, 0, 3)
	})
}
