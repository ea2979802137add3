package testenv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	hfclient "github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/seal"
)

// retainedBy is the message of a topic that a broker keeps, as mosquitto_sub prints it.
func retainedBy(t *testing.T, broker, topic string) []byte {
	t.Helper()
	host, port, _ := net.SplitHostPort(broker)
	out, err := exec.Command("mosquitto_sub", "-h", host, "-p", port, "-t", topic, "-q", "1", "-C", "1", "-N", "-W", "110").Output()
	if err != nil {
		t.Fatalf("mosquitto_sub at %s: %v", broker, err)
	}
	return out
}

// opensslVerifies cuts a message in pieces as docs/mqtt.md says, with nothing of ours.
const opensslVerifies = `set -eu
message=$(cat "$1")
form='^\{"version":1,"service":"([a-z0-9-]+)","config":(\{.*\}),"checksum":"([0-9a-f]{64})","config_epoch":"([0-9A-Za-z-]+)","issued_at":"([0-9T:.+-]+)","signature":"([0-9A-Za-z+/]{86}==)"\}$'
part() { printf '%s\n' "$message" | sed -nE "s#$form#\\$1#p"; }
[ "$(part 2 | tr -d '\n' | openssl dgst -sha256 -r | cut -c1-64)" = "$(part 3)" ]
printf '1|%s|%s|%s|%s|%s' "$(part 1)" "$(part 2)" "$(part 3)" "$(part 4)" "$(part 5)" >"$3/signed"
part 6 | openssl base64 -d -A >"$3/signature"
openssl pkeyutl -verify -pubin -inkey "$2" -rawin -in "$3/signed" -sigfile "$3/signature"
`

const pythonVerifies = `import base64, hashlib, json, sys
from cryptography.hazmat.primitives.serialization import load_pem_public_key
message = json.load(open(sys.argv[1], encoding="utf-8"))
config = json.dumps(message["config"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
assert hashlib.sha256(config.encode()).hexdigest() == message["checksum"]
parts = [str(message["version"]), message["service"], config, message["checksum"], message["config_epoch"], message["issued_at"]]
key = load_pem_public_key(open(sys.argv[2], "rb").read())
key.verify(base64.b64decode(message["signature"]), "|".join(parts).encode())
`

// mqttCluster is a cluster whose agents have brokers, and keep a Mosquitto up to
// date over links of the test's network.
type mqttCluster struct {
	*Cluster
	outside *mosquitto
	brokers map[string]string // by the node's ID
}

const outsideEnd = "outside"

func startMQTTCluster(t *testing.T) *mqttCluster {
	t.Helper()
	c := &mqttCluster{Cluster: NewCluster(t, "CONFIG_MQTT_REISSUE=0"), outside: startMosquitto(t), brokers: map[string]string{}}
	url := "MQTT_URL=mqtt://" + c.Net.End(outsideEnd, c.outside.addr)
	for _, role := range []string{conf.MemberServer, conf.MemberServer, conf.MemberServer, conf.MemberSidecar} {
		addr := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
		n := c.Join(role, url, "CONFIG_MQTT_ADDR="+addr)
		c.brokers[n.ID] = addr
	}
	c.AwaitVoters(3)
	return c
}

// trust writes the cluster's public key.
func (c *mqttCluster) trust(t *testing.T) string {
	t.Helper()
	keys, err := hfclient.ParseKeys(c.Nodes[0].Local("/v1/keys").OK(t).Body)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "trust.pem")
	writePEM(t, path, keys[0])
	return path
}

// TestMQTTCluster plays what brokers of a cluster live through, one after the other.
func TestMQTTCluster(t *testing.T) {
	t.Parallel()
	Need(t, "mosquitto_sub", "openssl")
	subscribers(t)
	c := startMQTTCluster(t)
	trust := c.trust(t)
	all := map[string]string{"the outside broker": c.outside.addr}
	for id, addr := range c.brokers {
		all[id] = addr
	}

	t.Run("the same bytes everywhere", func(t *testing.T) {
		v := c.Nodes[3].Patch("stt-worker", `{"whisper_model":"größe|\u2028\" 😀","vad_threshold":0.25}`)
		awaitVersion(t, c.Nodes[3], "stt-worker", v)
		d := c.Nodes[3].Document("stt-worker")
		want, err := seal.EncodeUpdate(conf.Update{
			Version: seal.Format, Service: "stt-worker", Config: d.Config, Checksum: d.Metadata.Checksum, Epoch: d.Metadata.Epoch,
			IssuedAt: d.Metadata.IssuedAt, Signature: d.Metadata.Signature,
		})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for name, addr := range all {
			var got []byte
			Await(t, name+" to have the bytes of the leader", func() bool {
				got = retainedBy(t, addr, "system/config/stt-worker")
				return bytes.Equal(got, want)
			})
			file := filepath.Join(dir, "message")
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("sh", "-c", opensslVerifies, "sh", file, trust, dir).CombinedOutput(); err != nil {
				t.Errorf("openssl and the bytes of %s: %v\n%s", name, err, out)
			}
			if out, err := exec.Command("/usr/bin/python3", "-c", pythonVerifies, file, trust).CombinedOutput(); err != nil {
				t.Errorf("python and the bytes of %s: %v\n%s", name, err, out)
			}
			if err := os.WriteFile(file, bytes.Replace(got, []byte("0.25"), []byte("0.26"), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			if exec.Command("sh", "-c", opensslVerifies, "sh", file, trust, dir).Run() == nil {
				t.Fatal("openssl verifies a message that was changed")
			}
		}
	})

	t.Run("the leader dies between the commit and the publish", func(t *testing.T) {
		health := listenTopic(t, c.outside.addr, "system/health/config-manager")
		outside := listen(t, c.outside.addr, "stt-worker")
		f := follow(t, c.outside.addr, trust)
		for round, late := 0, 0; round < 2+late; round++ {
			mark := fmt.Sprintf("round-%d", round)
			leader := c.Leader()
			inside := map[string]*listener{}
			for _, n := range c.Except(leader) {
				inside[n.ID] = listen(t, c.brokers[n.ID], "stt-worker")
			}
			// From here on what the leader commits cannot reach the outside broker.
			c.Net.Link(leader.ID, outsideEnd).Cut()
			leader.Patch("stt-worker", `{"whisper_model":"`+mark+`"}`)
			leader.Kill()
			if outside.saw(mark) { // another one leads by now, and published
				if late++; late == 3 {
					t.Fatal("the leader published before it died: the test proves nothing")
				}
				c.Net.Link(leader.ID, outsideEnd).Heal()
				leader.Start()
				leader.AwaitUp()
				continue
			}
			health.sees("leader lost")
			outside.sees(mark)
			for _, l := range inside {
				l.sees(mark)
			}
			health.sees(`"ok":true`)
			Await(t, "every sample to accept it", func() bool {
				for _, p := range f.running {
					if !strings.Contains(said(p), mark) {
						return false
					}
				}
				return true
			})
			c.Net.Link(leader.ID, outsideEnd).Heal()
			leader.Start()
			leader.AwaitUp()
			listen(t, c.brokers[leader.ID], "stt-worker").sees(mark)
		}
		for name, p := range f.running {
			if strings.Contains(said(p), "refused") {
				t.Errorf("the %s subscriber refused what leaders said:\n%s", name, said(p))
			}
		}
	})

	t.Run("the outside broker is killed and restarted", func(t *testing.T) {
		c.outside.proc.Kill()
		c.Leader().Patch("stt-worker", `{"whisper_model":"while-it-was-away"}`)
		c.outside.start() // it remembers nothing
		listen(t, c.outside.addr, "stt-worker").sees("while-it-was-away")
		names := c.Nodes[0].Services()
		for _, service := range names {
			u, err := seal.DecodeUpdate(retainedBy(t, c.outside.addr, "system/config/"+service))
			if d := c.Nodes[0].Document(service); err != nil || u.Checksum != d.Metadata.Checksum {
				t.Errorf("%s: %v, %+v", service, err, u)
			}
		}
		if len(names) < 5 {
			t.Errorf("only %v", names)
		}
	})

	t.Run("the leader stops in order", func(t *testing.T) {
		health := listenTopic(t, c.outside.addr, "system/health/config-manager")
		health.sees(`"ok":true`)
		c.Leader().Stop()
		health.sees("leader stopped")
		health.sees(`"ok":true`)
		Await(t, "the broker to retain a good health", func() bool {
			var h conf.Health
			return json.Unmarshal(retainedBy(t, c.outside.addr, "system/health/config-manager"), &h) == nil && h.OK
		})
	})
}

// TestMQTTReissue renews signatures under real subscribers: they accept each, and
// an HTTP watch sees none.
func TestMQTTReissue(t *testing.T) {
	t.Parallel()
	broker := "127.0.0.1:" + strconv.Itoa(FreePorts(t, 1)[0])
	subscribers(t)
	a := StartProcess(t, "CONFIG_MQTT_ADDR="+broker, "CONFIG_MQTT_REISSUE=700ms")
	keys, err := hfclient.ParseKeys(a.Local("/v1/keys").OK(t).Body)
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "trust.pem")
	writePEM(t, trust, keys[0])
	version := a.Patch("stt-worker", `{"vad_threshold":0.25}`)
	tag := a.Local("/v1/config/stt-worker").OK(t).Header.Get("ETag")
	watch := Spawn(t, t.TempDir(), nil, "curl", "-sN", "http://"+a.LocalAddr+"/v1/watch/stt-worker")
	Await(t, "the watch to begin", func() bool { return watch.Transcript().Has("event: config") })
	Await(t, "the broker to have the change", func() bool {
		return bytes.Contains(retainedBy(t, broker, "system/config/stt-worker"), []byte("0.25"))
	})
	f := follow(t, broker, trust)
	Await(t, "three renewals at each subscriber", func() bool {
		for _, p := range f.running {
			if strings.Count(said(p), "accepted") < 4 {
				return false
			}
		}
		return true
	})
	for name, p := range f.running {
		last := ""
		for line := range strings.Lines(said(p)) {
			words := strings.Fields(line)
			if words[0] != "accepted" || words[2] <= last || !strings.Contains(line, `"vad_threshold":0.25`) {
				t.Errorf("the %s subscriber, after %s: %s", name, last, line)
			}
			last = words[2]
		}
	}
	now := a.Local("/v1/config/stt-worker").OK(t)
	if now.Header.Get("ETag") != tag || now.Header.Get("X-Config-Version") != strconv.FormatUint(version, 10) {
		t.Errorf("ETag %s became %s, version %s", tag, now.Header.Get("ETag"), now.Header.Get("X-Config-Version"))
	}
	if n := strings.Count(watch.Output(), "event: config"); n != 1 {
		t.Errorf("the watch over HTTP saw %d events:\n%s", n, watch.Output())
	}
	// A change still comes through, to both.
	a.Patch("stt-worker", `{"vad_threshold":0.5}`)
	Await(t, "the change", func() bool { return strings.Count(watch.Output(), "event: config") == 2 })
	watch.Signal(syscall.SIGTERM)
}
