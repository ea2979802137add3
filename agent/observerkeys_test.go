package agent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// An observer that was given the key of before learns the one after it from a member,
// and goes on; one that was given a foreign key learns nothing.
func TestObserverLearnsTheKey(t *testing.T) {
	o := options(t, map[string]string{"CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})
	o.MQTTAddr = "127.0.0.1:0"
	member := start(t, o).ready()
	if code, body := member.set("41"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	member.await("a keyring", func() bool { return testStatus{member.keyring()}.active(conf.KeySigning) != "" })
	before := member.sup.keys.Get().Public
	observer := func(trust string) *observing {
		return observe1(t, options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": trust,
			"CONFIG_OBSERVE_URL": "mqtt://" + member.broker.Addr().String(), "CONFIG_MEMBER_URL": member.Info().AdminURL, "CONFIG_API_TOKEN": "reader-token",
		}))
	}
	r := observer(base64.StdEncoding.EncodeToString(before))
	r.serves("41", "replica")
	rot, code, body := member.changeKey(conf.KeySigning, "rotate")
	if code != http.StatusOK {
		t.Fatal(code, body)
	}
	member.await("the new key in use", func() bool { return member.record("demo").KeyID == rot.KeyID })
	if code, body := member.set("42"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	r.serves("42", "replica")
	if _, _, body := r.get("/v1/keys"); !strings.Contains(body, rot.KeyID) {
		t.Errorf("/v1/keys does not have the key that it verifies with: %s", body)
	}

	foreign := observer(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	foreign.await("the refusal of all that comes", func() bool { return foreign.refusals() > 0 })
	if told := foreign.askKeys(t.Context()); !told || len(foreign.receiver.Trusted()) != 1 {
		t.Errorf("a member answered: %v; %d keys are trusted", told, len(foreign.receiver.Trusted()))
	}
	if code, _, body := foreign.get("/v1/config/demo/level"); code == http.StatusOK && body == "42" {
		t.Error("believed under a foreign key")
	}
}

func (r *observing) refusals() (n uint64) {
	_, by := r.receiver.Stats()
	for _, c := range by {
		n += c
	}
	return n
}

// An observer that is started again when no member can be asked goes on with the keys
// that it had learned, and drops those that are at their end.
func TestObserverKeepsTheKeys(t *testing.T) {
	o := options(t, map[string]string{"CONFIG_KEY_ROTATION_GRACE_MINUTES": "60"})
	o.MQTTAddr = "127.0.0.1:0"
	member := start(t, o).ready()
	member.await("a keyring", func() bool { return testStatus{member.keyring()}.active(conf.KeySigning) != "" })
	root := base64.StdEncoding.EncodeToString(member.sup.keys.Get().Public)
	rotate := func() string {
		t.Helper()
		rot, code, body := member.changeKey(conf.KeySigning, "rotate")
		if code != http.StatusOK {
			t.Fatal(code, body)
		}
		member.await("the new key in use", func() bool { return member.record("demo").KeyID == rot.KeyID })
		return rot.KeyID
	}
	set := func(level string) {
		t.Helper()
		if code, body := member.set(level); code != http.StatusOK {
			t.Fatal(code, body)
		}
	}
	const nobody = "http://127.0.0.1:1"
	dir := options(t, nil)
	observer := func(at string) *observing {
		t.Helper()
		oo := options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": root, "CONFIG_API_TOKEN": "reader-token",
			"CONFIG_OBSERVE_URL": "mqtt://" + member.broker.Addr().String(), "CONFIG_MEMBER_URL": at,
		})
		oo.DataDir, oo.LKGPath, oo.EnvFile = dir.DataDir, dir.LKGPath, dir.EnvFile
		return observe1(t, oo)
	}
	set("41")
	r := observer(member.Info().AdminURL)
	r.serves("41", "replica")
	first := rotate()
	set("42")
	r.serves("42", "replica")
	r.halt()

	set("43")
	r = observer(nobody)
	r.serves("43", "replica")
	if _, _, body := r.get("/v1/keys"); !strings.Contains(body, first) {
		t.Errorf("/v1/keys does not have the key that it verifies with: %s", body)
	}
	r.halt()

	// A key that was retired meanwhile goes as soon as a member says so, and does not
	// come back.
	member.await("the end of the first key", func() bool { _, code, _ := member.changeKey(conf.KeySigning, "retire"); return code == http.StatusOK })
	second := rotate()
	member.await("the end of the second key", func() bool { _, code, _ := member.changeKey(conf.KeySigning, "retire"); return code == http.StatusOK })
	set("44")
	r = observer(member.Info().AdminURL)
	trusts := func(id string) bool { _, _, body := r.get("/v1/keys"); return strings.Contains(body, id) }
	r.await("the newest key, and not the retired one", func() bool { return trusts(second) && !trusts(first) })
	r.serves("44", "replica")
	r.halt()
	r = observer(nobody)
	if !trusts(second) || trusts(first) {
		t.Errorf("after a restart it trusts %d keys", len(r.receiver.Trusted()))
	}
	set("45")
	r.serves("45", "replica")
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
	open := func(t *testing.T, dir Options, root int, learn []conf.KeyInfo) (trusted []int, log string) {
		t.Helper()
		o := options(t, map[string]string{
			"CONFIG_ROLE": "observer", "CONFIG_SERVICE_NAME": "demo", "CONFIG_TRUST": seal.EncodePublic(pub[root]), "CONFIG_OBSERVE_URL": "mqtt://127.0.0.1:1",
		})
		o.DataDir, o.LKGPath, o.EnvFile = dir.DataDir, dir.LKGPath, dir.EnvFile
		var out bytes.Buffer
		b, err := NewObserver(o, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			t.Fatal(err)
		}
		defer b.closeFiles()
		b.receiver.Learn(learn)
		b.keepKeys()
		for _, k := range b.receiver.Trusted() {
			if i := slices.IndexFunc(pub[:], func(o ed25519.PublicKey) bool { return o.Equal(k) }); i != root {
				trusted = append(trusted, i)
			}
		}
		slices.Sort(trusted)
		return trusted, out.String()
	}
	file := func(o Options) string { return filepath.Join(o.DataDir, "learned-keys.json") }
	learned := func(t *testing.T) Options {
		t.Helper()
		o := options(t, nil)
		if got, _ := open(t, o, 0, chain); !slices.Equal(got, []int{2, 3}) {
			t.Fatalf("learned %v", got)
		}
		if i, err := os.Stat(file(o)); err != nil || i.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", i, err)
		}
		return o
	}
	again := func(t *testing.T, o Options, root int, want ...int) string {
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
		o := options(t, nil)
		if err := os.MkdirAll(file(o), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, log := open(t, o, 0, chain); !slices.Equal(got, []int{2, 3}) || !strings.Contains(log, "a restart forgets them") {
			t.Errorf("trusts %v, says %q", got, log)
		}
	})
	t.Run("a grace that ended meanwhile", func(t *testing.T) {
		o := options(t, nil)
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
		if err := set.keep(ended); err != nil {
			t.Fatal(err)
		}
		again(t, o, 0, 3)
	})
}
