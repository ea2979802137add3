// Command subscriber is a service that takes its configuration from MQTT and
// trusts nobody on the way. It accepts an update only when a leader of the cluster
// signed exactly these bytes, for this service, and when it is not older than what
// it has had: the signed epoch and version order, the time only tells how fresh it is.
// Settings: MQTT_URL, CONFIG_SERVICE_NAME, TRUST_FILE (the public keys, PEM), STATE_FILE
// (remembers epoch, version, time and checksum of the newest update across restarts;
// with "EPOCH 0" the first update of that epoch is the next one).
package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// form is the one form of a message, byte for byte. "config" is in RFC 8785 form
// already; decoding and encoding it again would make other bytes, so it is taken
// as it stands.
var form = regexp.MustCompile(`(?s)^\{"version":1,"service":"([a-z][a-z0-9-]*)","config":(\{.*\}),"checksum":"([0-9a-f]{64})"` +
	`,"config_epoch":"([A-Za-z0-9-]+)","issued_at":"([0-9T:.+-]+)","signature":"([A-Za-z0-9+/]{85}[AQgw]==)"\}$`)

// receiver verifies updates of one service and remembers the newest of them.
type receiver struct {
	service, state string // state is a file
	trust          string // a file with the trusted keys; while keys are rotated there are two
	now            update
	started        bool // there is a configuration since the start
}

// update is what is remembered of one.
type update struct {
	epoch              string
	version            uint64 // 0: no version was signed yet, and the time orders
	issuedAt, checksum string
}

// signed says whether one of the trusted keys signed a statement.
func (r *receiver) signed(signature string, statement ...string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	keys, _ := publicKeys(r.trust)
	return err == nil && slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool {
		return ed25519.Verify(key, []byte(strings.Join(statement, "|")), raw)
	})
}

// signedVersion returns the version of an update, 0 when no leader signed that it is
// this one.
func (r *receiver) signedVersion(properties paho.UserProperties, u update) uint64 {
	text := properties.Get("config-version")
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil || !r.signed(properties.Get("version-signature"), "holdfast-version", r.service, u.epoch, text, u.checksum) {
		return 0
	}
	return version
}

// receive returns the text of the new configuration, and "" when it is the
// present one. The error is the reason to refuse a message.
func (r *receiver) receive(message []byte, properties paho.UserProperties) (string, error) {
	parts := form.FindSubmatch(message)
	if parts == nil {
		return "", errors.New("malformed")
	}
	service, config := string(parts[1]), string(parts[2])
	u := update{checksum: string(parts[3]), epoch: string(parts[4]), issuedAt: string(parts[5])}
	if service != r.service {
		return "", errors.New("service")
	}
	if sum := sha256.Sum256(parts[2]); hex.EncodeToString(sum[:]) != u.checksum {
		return "", errors.New("checksum")
	}
	if !r.signed(string(parts[6]), "1", service, config, u.checksum, u.epoch, u.issuedAt) {
		return "", errors.New("signature")
	}
	u.version = r.signedVersion(properties, u)
	fresh, err := r.order(&u)
	if err != nil || !fresh && r.started {
		return "", err
	}
	if fresh {
		r.now = u
		if err := r.remember(); err != nil {
			return "", err
		}
	}
	r.started = true
	return config, nil
}

// order says whether what a leader said is also for now, and whether it is news. Only
// signed words count: the MQTT 5 properties are whatever the broker makes of them, and
// the version among them has a signature of its own. Where no version was ever signed, as
// with MQTT 3.1.1, the time orders. Times of this form order as text.
func (r *receiver) order(u *update) (fresh bool, err error) {
	soon := time.Now().Add(5 * time.Minute).UTC().Format("2006-01-02T15:04:05+00:00")
	fresh = u.version > r.now.version || u.issuedAt > r.now.issuedAt
	switch {
	case r.now.epoch != "" && u.epoch != r.now.epoch:
		return false, errors.New("epoch")
	case r.now.version > 0 && u.version == 0:
		if u.checksum != r.now.checksum {
			return false, errors.New("version")
		}
		u.version = r.now.version // the document in use, without its version
	case r.now.version > 0:
		if u.version < r.now.version || u.version == r.now.version && u.checksum != r.now.checksum {
			return false, errors.New("older")
		}
	case u.version == 0 && u.issuedAt > soon:
		return false, errors.New("future")
	case u.issuedAt < r.now.issuedAt:
		return false, errors.New("older")
	}
	return fresh, nil
}

func (r *receiver) remember() error {
	f, err := os.Create(r.state + ".tmp")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %d %s %s\n", r.now.epoch, r.now.version, r.now.issuedAt, r.now.checksum)
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
		if n, err := fmt.Sscan(string(text), &r.now.epoch, &r.now.version, &r.now.issuedAt, &r.now.checksum); n < 2 {
			return fmt.Errorf("%s: %w", r.state, err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	broker, err := url.Parse(cmp.Or(os.Getenv("MQTT_URL"), "mqtt://127.0.0.1:1883"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o := autopaho.ClientConfig{
		ServerUrls: []*url.URL{broker}, KeepAlive: 30, CleanStartOnInitialConnection: true,
		ReconnectBackoff: func(int) time.Duration { return time.Second },
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			_, _ = c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "system/config/" + r.service, QoS: 1}}})
		},
		ClientConfig: paho.ClientConfig{OnPublishReceived: []func(paho.PublishReceived) (bool, error){r.onMessage}},
	}
	if broker.User != nil {
		password, _ := broker.User.Password()
		o.ConnectUsername, o.ConnectPassword = broker.User.Username(), []byte(password)
	}
	c, err := autopaho.NewConnection(ctx, o)
	if err != nil {
		return err
	}
	<-c.Done() // after a signal
	return nil
}

// onMessage is called for one message at a time.
func (r *receiver) onMessage(m paho.PublishReceived) (bool, error) {
	config, err := r.receive(m.Packet.Payload, m.Packet.Properties.User)
	switch {
	case err != nil:
		fmt.Println("refused:", err)
	case config != "":
		// json.Unmarshal of config is what a service goes on with.
		fmt.Printf("accepted %s %s %s\n", r.service, r.now.issuedAt, config)
	}
	return true, nil
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
