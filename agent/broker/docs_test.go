package broker

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

// block is the n-th code block of a language in docs/mqtt.md.
func block(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n```"+language+"\n")
	code, _, end := strings.Cut(rest, "\n```\n")
	if !ok || !end {
		t.Fatalf("docs/mqtt.md has no block of %s", language)
	}
	return code + "\n"
}

// python finds an interpreter that has what the sample needs.
func python(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import paho.mqtt.client, cryptography").Run() == nil {
			return p
		}
	}
	base.Missing(t, "python3 with paho-mqtt and cryptography is missing: install python3-paho-mqtt and python3-cryptography")
	return ""
}

// sample is a running sample of the documentation.
type sample struct {
	out, err lines
}

func runSample(t *testing.T, b *Broker, name string, args ...string) (s *sample, stop func()) {
	t.Helper()
	_, port, _ := strings.Cut(b.Addr().String(), ":")
	s = &sample{}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "MQTT_PORT="+port)
	cmd.Stdout, cmd.Stderr = &s.out, &s.err
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	return s, stop
}

// TestDocumentedSubscribers runs the samples of docs/mqtt.md, as they stand there,
// against a broker that forges.
func TestDocumentedSubscribers(t *testing.T) {
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(testPublic)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key.pem")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	t.Run("python", func(t *testing.T) {
		interpreter := python(t)
		file, state := filepath.Join(dir, "follow.py"), filepath.Join(t.TempDir(), "state.json")
		write(t, file, []byte(block(t, "python")))
		follow(t, true, interpreter, file, "router", key, state)
	})
	t.Run("shell", func(t *testing.T) {
		need(t, "mosquitto_sub", "mosquitto-clients")
		need(t, "openssl", "openssl")
		file := filepath.Join(dir, "follow.sh")
		write(t, file, []byte(block(t, "sh")))
		follow(t, false, "sh", file, "router", key)
	})
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func follow(t *testing.T, persists bool, name string, args ...string) {
	at := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	step := 0
	// issue signs a document; later ones are issued later. The first has no fraction of a second.
	issue := func(service, epoch string, version uint64, config string) *conf.Record {
		u := testSigner.Sign(service, []byte(config), epoch, at.Add(time.Duration(step)*time.Millisecond))
		step++
		return &conf.Record{
			Service: service, Version: version, Epoch: epoch, Config: u.Config, Checksum: u.Checksum, IssuedAt: u.IssuedAt,
			Signature: u.Signature, KeyID: testSigner.KeyID(), Index: version,
		}
	}
	const tricky = `{"a":{"checksum":"x","config":{}},"e":1e+30,"f":0.1,"s":"q\"},\" \\ ü € 😀"}`
	first := issue("router", testEpoch, 1, `{}`)
	src := newSource(first)
	b := start(t, Options{Source: src})
	s, stop := runSample(t, b, name, args...)
	accepted := 0
	shows := func(want string) {
		t.Helper()
		accepted++
		await(t, "the sample shows "+want, func() bool { return strings.Count(s.out.String(), "\n") >= accepted })
		shown := strings.Split(strings.TrimSpace(s.out.String()), "\n")
		if len(shown) != accepted || name == "sh" && shown[accepted-1] != want {
			t.Fatalf("shown:\n%s\nwant %s; it says:\n%s", s.out.String(), want, s.err.String())
		}
	}
	defer func() {
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", s.out.String(), s.err.String())
		}
	}()
	shows(`{}`)
	second := issue("router", testEpoch, 2, tricky)
	src.set(second)
	shows(tricky)

	refused := 0
	forge := func(what string, payload []byte, r *conf.Record) {
		t.Helper()
		b.publish(newMessage("system/config/router", payload, r))
		refused++
		await(t, what+" is refused", func() bool { return strings.Count(s.err.String(), "refused: ") >= refused })
		if n := strings.Count(s.out.String(), "\n"); n != accepted {
			t.Fatalf("%s is accepted: %s", what, s.out.String())
		}
	}
	good := payloadOf(t, issue("router", testEpoch, 3, `{"n":1}`))
	replace := func(p []byte, old, now string) []byte {
		t.Helper()
		q := bytes.Replace(p, []byte(old), []byte(now), 1)
		if bytes.Equal(p, q) {
			t.Fatalf("%s is not in %s", old, p)
		}
		return q
	}
	forge("an older message", payloadOf(t, first), first)
	lying := *first
	lying.Version = 99
	forge("an older message with a higher version on its envelope", payloadOf(t, first), &lying)
	forge("another document", replace(good, `{"n":1}`, `{"n":2}`), nil)
	forge("a re-serialised one", replace(good, `{"n":1}`, `{"n": 1}`), nil)
	forge("a truncated one", good[:len(good)-4], nil)
	forge("an unsigned one", replace(good, `"signature":"`, `"Signature":"`), nil)
	forge("one with more members", replace(good, `{"version":1`, `{"version":1,"x":2`), nil)
	forge("another format", replace(good, `{"version":1`, `{"version":2`), nil)
	forge("another service", payloadOf(t, issue("other", testEpoch, 3, `{}`)), nil)
	forge("another epoch", payloadOf(t, issue("router", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 3, `{}`)), nil)
	future := testSigner.Sign("router", []byte(`{}`), testEpoch, time.Now().Add(time.Hour))
	fr := conf.Record{Service: "router", Epoch: testEpoch, Config: future.Config, Checksum: future.Checksum, IssuedAt: future.IssuedAt, Signature: future.Signature}
	forge("one of the future", payloadOf(t, &fr), nil)
	other := append([]byte(nil), good...)
	i := bytes.Index(other, []byte(`"signature":"`)) + len(`"signature":"`) + 10
	other[i] = 'A' + (other[i]-'A'+1)%26
	forge("another signature", other, nil)

	third := issue("router", testEpoch, 3, `{"n":3}`)
	src.set(third)
	shows(`{"n":3}`)
	if !persists {
		return
	}
	stop()
	before := accepted
	s, _ = runSample(t, b, name, args...)
	accepted, refused = 0, 0
	forge("an older message after a restart", payloadOf(t, second), second)
	src.set(issue("router", testEpoch, 4, fmt.Sprintf(`{"n":%d}`, before)))
	shows(fmt.Sprintf(`{"n":%d}`, before))
}
