package testenv

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/holdfast-config/holdfast/replication/seal"
)

// subscribers are the samples of testenv/services/mqtt, by language, as commands.
func subscribers(t *testing.T) map[string][]string {
	t.Helper()
	Need(t, "node", "sh", "mosquitto_sub", "openssl")
	dir := filepath.Join(Root(), "testenv", "services", "mqtt")
	// apt puts the modules where Debian's interpreters look; there may be others.
	const python = "/usr/bin/python3"
	for what, check := range map[string]*exec.Cmd{
		"python3-paho-mqtt and python3-cryptography": exec.Command(python, "-c", "import paho.mqtt.client, cryptography"),
		"node-mqtt": nodeCommand("-e", "require('mqtt')"),
	} {
		if out, err := check.CombinedOutput(); err != nil {
			Missing(t, "%s is not installed: make test-tools installs it when run as root: %v\n%s", what, err, out)
		}
	}
	return map[string][]string{
		"python": {python, filepath.Join(dir, "subscriber.py")},
		"node":   {"node", filepath.Join(dir, "subscriber.js")},
		"shell":  {"sh", filepath.Join(dir, "subscriber.sh")},
		"go":     {Binary(t, "./testenv/services/mqtt/subscriber")},
	}
}

// nodePath is where Debian puts modules; a Node from elsewhere does not look there.
const nodePath = "NODE_PATH=/usr/share/nodejs"

func nodeCommand(args ...string) *exec.Cmd {
	cmd := exec.Command("node", args...)
	cmd.Env = append(os.Environ(), nodePath)
	return cmd
}

// following is one running sample for each language, and what all of them must
// have said by now.
type following struct {
	t       *testing.T
	dir     string
	env     []string
	samples map[string][]string
	running map[string]*Process
	want    []string
}

func follow(t *testing.T, broker, trust string) *following {
	t.Helper()
	f := &following{t: t, dir: t.TempDir(), samples: subscribers(t)}
	f.env = []string{"MQTT_URL=mqtt://" + broker, "CONFIG_SERVICE_NAME=stt-worker", "TRUST_FILE=" + trust, "TMPDIR=" + t.TempDir(), nodePath}
	f.start()
	return f
}

func (f *following) start() {
	f.t.Helper()
	f.running, f.want = map[string]*Process{}, nil
	for name, command := range f.samples {
		env := append([]string{"STATE_FILE=" + filepath.Join(f.dir, name)}, f.env...)
		f.running[name] = Spawn(f.t, f.dir, env, command[0], command[1:]...)
	}
}

func (f *following) kill() {
	for _, p := range f.running {
		p.Kill()
	}
}

// said are the verdicts of a sample; what it tells of its connection is not one.
func said(p *Process) string {
	var out strings.Builder
	for line := range strings.Lines(p.Output()) {
		if whole := strings.HasSuffix(line, "\n"); whole && (strings.HasPrefix(line, "accepted ") || strings.HasPrefix(line, "refused: ")) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// says waits until every sample has said line, after exactly what it said before.
func (f *following) says(line string) {
	f.t.Helper()
	f.want = append(f.want, line)
	want := strings.Join(f.want, "\n") + "\n"
	for name, p := range f.running {
		if !poll(Patience, func() bool { return !strings.HasPrefix(want, said(p)) || said(p) == want }) || said(p) != want {
			f.t.Fatalf("the %s subscriber should have said:\n%s\nIt printed:\n%s", name, want, p.Output())
		}
	}
}

// TestMQTTSubscribers runs the subscribers of every language against the broker of
// a real agent: they accept what it publishes, through its death too, and so does
// holdfast verify.
func TestMQTTSubscribers(t *testing.T) {
	t.Parallel()
	broker := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	subscribers(t)                                                            // before an agent is started for nothing
	a := StartProcess(t, "CONFIG_MQTT_ADDR="+broker, "CONFIG_MQTT_REISSUE=0") // each line is of a change
	var keys struct {
		Keys []struct {
			PEM string `json:"public_key_pem"`
		} `json:"keys"`
	}
	a.Local("/v1/keys").Into(t, &keys)
	trust := filepath.Join(t.TempDir(), "trust.pem")
	if err := os.WriteFile(trust, []byte(keys.Keys[0].PEM), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Patch("stt-worker", `{"whisper_model":"größe|\u2028\" ,\"checksum\":\""}`)
	f := follow(t, broker, trust)
	accepts := func() {
		t.Helper()
		d := a.Document("stt-worker")
		canonical, err := seal.CanonicalJSON(d.Config)
		if err != nil {
			t.Fatal(err)
		}
		f.says(fmt.Sprintf("accepted stt-worker %s %s", d.Metadata.IssuedAt, canonical))
	}
	accepts()
	a.Patch("stt-worker", `{"vad_threshold":0.25}`)
	accepts()

	// The retained message that comes with each connection is no news.
	a.AwaitLKG(State{"stt-worker": a.Document("stt-worker")})
	a.Restart()
	a.Patch("stt-worker", `{"whisper_model":"medium.en"}`)
	accepts()

	// Who verifies on his own is given the next signing key before it is used, and
	// notices nothing when it is.
	next := a.rotation("signing", "prepare")
	Await(t, "two keys in /v1/keys while one is prepared", func() bool {
		a.Local("/v1/keys").Into(t, &keys)
		return len(keys.Keys) == 2
	})
	if err := os.WriteFile(trust, []byte(keys.Keys[0].PEM+keys.Keys[1].PEM), 0o600); err != nil {
		t.Fatal(err)
	}
	a.rotation("signing", "rotate")
	Await(t, "a signature by the next key", func() bool { return a.Document("stt-worker").Metadata.KeyID == next.KeyID })
	accepts()
	a.Patch("stt-worker", `{"whisper_model":"small.en"}`)
	accepts()

	// After their own restart they have a configuration again.
	f.kill()
	f.start()
	accepts()

	host, port, _ := net.SplitHostPort(broker)
	verify := exec.Command("sh", "-c", `mosquitto_sub -h "$1" -p "$2" -t 'system/config/#' -C 2 | "$3" verify`,
		"sh", host, port, Binary(t, "./cmd/holdfast"))
	verify.Env = append(cleanEnv(), a.Env()...)
	out, err := verify.CombinedOutput()
	if err != nil || strings.Count(string(out), " good\n") != 2 {
		t.Errorf("holdfast verify: %v\n%s", err, out)
	}
}

// mosquitto is a broker where anyone may publish anything.
type mosquitto struct {
	t          *testing.T
	bin        string
	conf, addr string
	proc       *Process
}

func startMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	m := &mosquitto{t: t, bin: "/usr/sbin/mosquitto", conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	if _, err := os.Stat(m.bin); err != nil {
		Need(t, "mosquitto")
		m.bin = "mosquitto"
	}
	port := strconv.Itoa(FreePorts(t, 1)[0])
	m.addr = "127.0.0.1:" + port
	if err := os.WriteFile(m.conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.proc = Spawn(m.t, filepath.Dir(m.conf), nil, m.bin, "-c", m.conf)
	Await(m.t, "mosquitto to listen", func() bool {
		c, err := net.Dial("tcp", m.addr)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
}

// versioned are the MQTT 5 user properties of a version, as the publisher sends them.
func versioned(version, signature string) paho.UserProperties {
	return paho.UserProperties{{Key: "config-version", Value: version}, {Key: "config-index", Value: "1"}, {Key: "version-signature", Value: signature}}
}

// publish sends one message to the topic of stt-worker, as anybody can.
func (m *mosquitto) publish(payload string, retain bool, properties ...paho.UserProperty) {
	m.t.Helper()
	c := m.client()
	defer m.leave(c)
	m.send(c, []byte(payload), retain, properties)
}

// publisher sends many, none of them retained, on one connection.
func (m *mosquitto) publisher() func(payload []byte, properties paho.UserProperties) {
	m.t.Helper()
	c := m.client()
	m.t.Cleanup(func() { m.leave(c) })
	return func(payload []byte, properties paho.UserProperties) {
		m.t.Helper()
		m.send(c, payload, false, properties)
	}
}

func (m *mosquitto) send(c *paho.Client, payload []byte, retain bool, properties paho.UserProperties) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), Patience)
	defer cancel()
	if _, err := c.Publish(ctx, &paho.Publish{
		Topic: "system/config/stt-worker", QoS: 1, Retain: retain, Payload: payload, Properties: &paho.PublishProperties{User: properties},
	}); err != nil {
		m.t.Fatalf("publishing to mosquitto: %v", err)
	}
}

func (m *mosquitto) client() *paho.Client {
	m.t.Helper()
	conn, err := net.Dial("tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	ctx, cancel := context.WithTimeout(m.t.Context(), Patience)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{CleanStart: true}); err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *mosquitto) leave(c *paho.Client) {
	_ = c.Disconnect(&paho.Disconnect{})
	<-c.Done()
}

// writePEM writes a public key for the samples.
func writePEM(t *testing.T, path string, key ed25519.PublicKey) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestMQTTForgeries plays a broker that shows its subscribers everything but the
// truth: none of the samples believes any of it.
func TestMQTTForgeries(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "trust.pem")
	writePEM(t, trust, public)

	const epoch, otherEpoch = "550e8400-e29b-41d4-a716-446655440000", "650e8400-e29b-41d4-a716-446655440000"
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	// sign makes the message of second n.
	sign := func(key ed25519.PrivateKey, service, config, epoch string, n time.Duration) (message, issued string) {
		u := seal.NewSigner(key).Sign(service, []byte(config), epoch, begin.Add(n*time.Second))
		data, err := seal.EncodeUpdate(u)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), u.IssuedAt
	}
	const (
		config1 = `{"a":1,"b":0.5,"tiny":1e-7,"ü":"größe|\"}"}`
		config2 = `{"a":2,"b":0.5,"config":{"x":["\\","😀"]}}`
		config3 = `{}`
	)
	old, issued1 := sign(private, "stt-worker", config1, epoch, 0)
	now, issued2 := sign(private, "stt-worker", config2, epoch, 2)
	next, issued3 := sign(private, "stt-worker", config3, epoch, 3)
	forged, _ := sign(foreign, "stt-worker", config2, epoch, 5)
	service, _ := sign(private, "router", config2, epoch, 5)
	rebuilt, _ := sign(private, "stt-worker", config2, otherEpoch, 5)
	future, _ := sign(private, "stt-worker", config2, epoch, 7200)
	// good is newer than all that is accepted until the end: what is made of it can be
	// refused for nothing but the forgery.
	good, _ := sign(private, "stt-worker", config2, epoch, 6)
	sum := func(s string) string {
		h := sha256.Sum256([]byte(s))
		return hex.EncodeToString(h[:])
	}
	changed := func(from string, pairs ...string) string {
		t.Helper()
		out := strings.NewReplacer(pairs...).Replace(from)
		if out == from {
			t.Fatalf("%q changes nothing in %s", pairs, from)
		}
		return out
	}
	const signature = `,"signature":"`
	head, _, _ := strings.Cut(good, signature)
	_, oldTail, _ := strings.Cut(old, signature)
	forgeries := []struct{ what, message, reason string }{
		{"signed by another key", forged, "signature"},
		{"with the signature of another message", head + signature + oldTail, "signature"},
		{"with another value", changed(good, `"a":2`, `"a":3`), "checksum"},
		{"with another value and its checksum", changed(good, `"a":2`, `"a":3`, sum(config2), sum(changed(config2, `"a":2`, `"a":3`))), "signature"},
		{"of another service", service, "service"},
		{"of another service, renamed", changed(service, `"router"`, `"stt-worker"`), "signature"},
		{"of another epoch", rebuilt, "epoch"},
		{"of another epoch, renamed", changed(rebuilt, otherEpoch, epoch), "signature"},
		{"older", old, "older"},
		{"older, dated anew", changed(old, issued1, issued3), "signature"},
		{"from the future", future, "future"},
		{"in another format", changed(good, `"version":1`, `"version":2`), "malformed"},
		{"re-serialised with spaces", changed(good, `":`, `": `), "malformed"},
		{"re-serialised with spaces within", changed(good, `"a":2,`, `"a":2, `), "checksum"},
		{"re-serialised in another order", changed(good, `"a":2,"b":0.5`, `"b":0.5,"a":2`), "checksum"},
		{"re-serialised with another number", changed(good, `0.5`, `0.50`), "checksum"},
		{"re-serialised with escapes", changed(good, "😀", `\ud83d\ude00`, sum(config2), sum(changed(config2, "😀", `\ud83d\ude00`))), "signature"},
		{"with the members in another order", changed(good, `"version":1,"service":"stt-worker"`, `"service":"stt-worker","version":1`), "malformed"},
		{"truncated", good[:len(good)-30], "malformed"},
		{"truncated by a byte", good[:len(good)-1], "malformed"},
		{"with more behind it", good + "}", "malformed"},
		{"unsigned", head + "}", "malformed"},
		{"with an empty signature", head + signature + `"}`, "malformed"},
		{"with a config before the config", changed(good, `"config":{"a"`, `"config":{"evil":true},"config":{"a"`), "checksum"},
		{"no text", "\xff\xfe{\x01", "malformed"},
	}

	m := startMosquitto(t)
	m.publish(old, true)
	f := follow(t, m.addr, trust)
	f.says(fmt.Sprintf("accepted stt-worker %s %s", issued1, config1))
	m.publish(now, true)
	f.says(fmt.Sprintf("accepted stt-worker %s %s", issued2, config2))
	for _, c := range forgeries {
		t.Logf("an update %s", c.what)
		m.publish(c.message, false)
		f.says("refused: " + c.reason)
	}
	m.publish(now, false) // the same once more is no news

	// The broker dies, and comes back with what an attacker wants retained.
	m.proc.Kill()
	m.start()
	m.publish(old, true)
	f.says("refused: older")

	// The subscribers die: they still know what they have had.
	f.kill()
	f.start()
	f.says("refused: older")
	m.publish(rebuilt, false)
	f.says("refused: epoch")
	m.publish(next, true)
	f.says(fmt.Sprintf("accepted stt-worker %s %s", issued3, config3))
	m.publish(now, false)
	f.says("refused: older")
}

// TestMQTTVersionForgeries: once a signed version was accepted, versions order, and time
// does not: no broker makes a sample that holds version 8 take a replayed 7, whatever time
// it has and whatever becomes of its properties.
func TestMQTTVersionForgeries(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "trust.pem")
	writePEM(t, trust, public)
	const epoch, otherEpoch = "550e8400-e29b-41d4-a716-446655440000", "650e8400-e29b-41d4-a716-446655440000"
	leader, foreign := seal.NewSigner(private), seal.NewSigner(stranger)
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	const seven, eight, nine = `{"v":7}`, `{"v":8}`, `{"v":9}`
	// sign makes the message of minute n.
	sign := func(config string, n int) (message, issued string) {
		u := leader.Sign("stt-worker", []byte(config), epoch, begin.Add(time.Duration(n)*time.Minute))
		data, err := seal.EncodeUpdate(u)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), u.IssuedAt
	}
	version := func(s *seal.Signer, service, epoch, config string, n uint64) string {
		return s.SignVersion(service, epoch, n, seal.Checksum([]byte(config)))
	}
	good := func(config string, n uint64) paho.UserProperties {
		return versioned(strconv.FormatUint(n, 10), version(leader, "stt-worker", epoch, config, n))
	}
	m := startMosquitto(t)
	old, issued := sign(seven, 0)
	m.publish(old, true)
	f := follow(t, m.addr, trust)
	accepted := func(issued, config string) {
		t.Helper()
		f.says("accepted stt-worker " + issued + " " + config)
	}
	accepted(issued, seven) // without a version: there is none yet
	now, issued := sign(seven, 1)
	m.publish(now, true, good(seven, 7)...)
	accepted(issued, seven)
	held, issued := sign(eight, 2)
	m.publish(held, true, good(eight, 8)...)
	accepted(issued, eight)

	replayed, _ := sign(seven, 30) // as by a leader whose clock was ahead
	newer, _ := sign(nine, 31)
	one := func(key, value string) paho.UserProperty { return paho.UserProperty{Key: key, Value: value} }
	sig7, sig8, sig9 := version(leader, "stt-worker", epoch, seven, 7), version(leader, "stt-worker", epoch, eight, 8), version(leader, "stt-worker", epoch, nine, 9)
	for _, c := range []struct {
		what, message string
		properties    paho.UserProperties
		reason        string
	}{
		{"a replayed 7 with a newer time", replayed, good(seven, 7), "older"},
		{"without its properties", replayed, nil, "version"},
		{"without its signature", replayed, paho.UserProperties{one("config-version", "9")}, "version"},
		{"without its version", replayed, paho.UserProperties{one("version-signature", sig7)}, "version"},
		{"under another version", replayed, versioned("9", sig7), "version"},
		{"with the signature of 8", replayed, versioned("8", sig8), "version"},
		{"with the signature of 9", replayed, versioned("9", sig9), "version"},
		{"with two versions", replayed, append(versioned("9", sig9), versioned("9", sig7)...), "version"},
		{"with the properties in one", replayed, paho.UserProperties{one("x", "config-version:9 version-signature:"+sig9)}, "version"},
		{"a version with a zero in front", newer, versioned("09", sig9), "version"},
		{"a negative version", newer, versioned("-9", sig9), "version"},
		{"a version beyond all", newer, versioned("99999999999999999999999", sig9), "version"},
		{"a version that is no number", newer, versioned("nine", sig9), "version"},
		{"an empty version", newer, versioned("", sig9), "version"},
		{"a version that another signed", newer, versioned("9", version(foreign, "stt-worker", epoch, nine, 9)), "version"},
		{"the version of another service", newer, versioned("9", version(leader, "router", epoch, nine, 9)), "version"},
		{"the version of another epoch", newer, versioned("9", version(leader, "stt-worker", otherEpoch, nine, 9)), "version"},
		{"a damaged signature", newer, versioned("9", "!"+sig9[1:]), "version"},
		{"an empty signature", newer, versioned("9", ""), "version"},
		{"another document under 8", newer, good(nine, 8), "older"},
	} {
		t.Logf("%s", c.what)
		m.publish(c.message, false, c.properties...)
		f.says("refused: " + c.reason)
	}
	m.publish(held, false)                         // the document in use is no news
	m.publish(held, false, versioned("9", "x")...) // whatever is said of it
	again, _ := sign(eight, -5)                    // nor is it when its time goes back
	m.publish(again, false, good(eight, 8)...)

	// A leader whose clock is a day ahead signs 8 again, and 9 when it is right.
	ahead, issued := sign(eight, 24*60)
	m.publish(ahead, true, good(eight, 8)...)
	accepted(issued, eight)
	m.publish(replayed, true, good(seven, 7)...)
	f.says("refused: older")
	m.publish(newer, true, good(nine, 9)...)
	_, issued = sign(nine, 31)
	accepted(issued, nine)
	m.publish(ahead, true, good(eight, 8)...)
	f.says("refused: older")

	// They know the version after their death too.
	f.kill()
	f.start()
	f.says("refused: older")
	m.publish(newer, true, good(nine, 9)...)
	accepted(issued, nine)
}
