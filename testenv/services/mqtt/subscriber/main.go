// Command subscriber is a service that takes its configuration from MQTT and
// trusts nobody on the way. It accepts an update only when a leader of the cluster
// signed exactly these bytes, for this service, and when it is not older than what
// it has had. Settings: MQTT_URL, CONFIG_SERVICE_NAME, TRUST_FILE (the public keys,
// PEM), STATE_FILE (remembers epoch and time of the newest update across restarts;
// remove it when the store was restored).
package main

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// form is the one form of a message, byte for byte. "config" is in RFC 8785 form
// already; decoding and encoding it again would make other bytes, so it is taken
// as it stands.
var form = regexp.MustCompile(`(?s)^\{"version":1,"service":"([a-z][a-z0-9-]*)","config":(\{.*\}),"checksum":"([0-9a-f]{64})"` +
	`,"config_epoch":"([A-Za-z0-9-]+)","issued_at":"([0-9T:.+-]+)","signature":"([A-Za-z0-9+/]{85}[AQgw]==)"\}$`)

// receiver verifies updates of one service and remembers the newest of them.
type receiver struct {
	service, state  string // state is a file
	trust           string // a file with the trusted keys; while keys are rotated there are two
	epoch, issuedAt string
	started         bool // there is a configuration since the start
}

// receive returns the text of the new configuration, and "" when it is the
// present one. The error is the reason to refuse a message.
func (r *receiver) receive(message []byte) (string, error) {
	parts := form.FindSubmatch(message)
	if parts == nil {
		return "", errors.New("malformed")
	}
	service, config, checksum, epoch, issuedAt := string(parts[1]), string(parts[2]), string(parts[3]), string(parts[4]), string(parts[5])
	if service != r.service {
		return "", errors.New("service")
	}
	if sum := sha256.Sum256(parts[2]); hex.EncodeToString(sum[:]) != checksum {
		return "", errors.New("checksum")
	}
	signature, err := base64.StdEncoding.DecodeString(string(parts[6]))
	signed := strings.Join([]string{"1", service, config, checksum, epoch, issuedAt}, "|")
	keys, _ := publicKeys(r.trust)
	by := func(key ed25519.PublicKey) bool { return ed25519.Verify(key, []byte(signed), signature) }
	if err != nil || !slices.ContainsFunc(keys, by) {
		return "", errors.New("signature")
	}

	// From here on a leader said it. Is it also for now? Times of this form order as
	// text. Only signed words count: config-version, the MQTT 5 property, is
	// whatever the broker makes of it.
	soon := time.Now().Add(5 * time.Minute).UTC().Format("2006-01-02T15:04:05+00:00")
	switch {
	case r.epoch != "" && epoch != r.epoch:
		return "", errors.New("epoch")
	case issuedAt > soon:
		return "", errors.New("future")
	case issuedAt < r.issuedAt:
		return "", errors.New("older")
	case issuedAt == r.issuedAt && r.started:
		return "", nil
	}
	r.epoch, r.issuedAt, r.started = epoch, issuedAt, true
	if err := r.remember(); err != nil {
		return "", err
	}
	return config, nil
}

func (r *receiver) remember() error {
	f, err := os.Create(r.state + ".tmp")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s\n", r.epoch, r.issuedAt)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(r.state+".tmp", r.state)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	r := &receiver{service: cmp.Or(os.Getenv("CONFIG_SERVICE_NAME"), "stt-worker"), state: os.Getenv("STATE_FILE"), trust: os.Getenv("TRUST_FILE")}
	if _, err := publicKeys(r.trust); err != nil {
		return err
	}
	if text, err := os.ReadFile(r.state); err == nil {
		r.epoch, r.issuedAt, _ = strings.Cut(strings.TrimSpace(string(text)), " ")
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	onMessage := func(_ mqtt.Client, m mqtt.Message) { // paho calls it for one message at a time
		config, err := r.receive(m.Payload())
		switch {
		case err != nil:
			fmt.Println("refused:", err)
		case config != "":
			// json.Unmarshal of config is what a service goes on with.
			fmt.Printf("accepted %s %s %s\n", r.service, r.issuedAt, config)
		}
	}
	o := mqtt.NewClientOptions().AddBroker(cmp.Or(os.Getenv("MQTT_URL"), "mqtt://127.0.0.1:1883"))
	o.SetConnectRetry(true).SetConnectRetryInterval(time.Second).SetMaxReconnectInterval(2 * time.Second)
	o.SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe("system/config/"+r.service, 1, onMessage) })
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	c := mqtt.NewClient(o)
	c.Connect()
	<-stop
	c.Disconnect(250)
	return nil
}

func publicKeys(file string) (keys []ed25519.PublicKey, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		key, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("%s holds a key that is not Ed25519", file)
		}
		keys = append(keys, key)
	}
	if keys == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	return keys, nil
}
