package rotation

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"time"

	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// caKeys are the CAs that this agent trusts and, on a server, can issue by. Changes are
// made with Manager.mu held.
type caKeys struct {
	dir     string // of the identity
	port    *transport.Transport
	cluster *peers.Cluster
	now     func() time.Time
	renewed time.Time // monotonic
	log     *slog.Logger
	parsed  map[string]parsedCA // by the text in the keyring, checked before: the loops ask each second
}

// parsedCA is a CA certificate of the keyring, and the cluster that it is of.
type parsedCA struct {
	cert    *x509.Certificate
	cluster string
}

// maxParsedCAs is far more than a keyring has at a time.
const maxParsedCAs = 16

func encodeCA(c *x509.Certificate) string { return base64.StdEncoding.EncodeToString(c.Raw) }

// decode is called with Manager.mu held.
func (c *caKeys) decode(text string) (parsedCA, error) {
	if ca, ok := c.parsed[text]; ok {
		return ca, nil
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return parsedCA{}, conf.Errorf(conf.CodeCorrupt, "the keyring holds a damaged CA certificate")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return parsedCA{}, err
	}
	if c.parsed == nil || len(c.parsed) >= maxParsedCAs {
		c.parsed = map[string]parsedCA{}
	}
	ca := parsedCA{cert, pki.ClusterOf(cert)}
	c.parsed[text] = ca
	return ca, nil
}

// isForeign reports whether a CA of the keyring is of another cluster.
func (c *caKeys) isForeign(k *conf.Key) bool {
	ca, err := c.decode(k.Public)
	return err != nil || ca.cluster != c.port.Identity().ClusterID
}

// next is the CA that was distributed and is not active yet, when it has this hash.
func (c *caKeys) next(hash string) *pki.CA {
	ca, err := pki.LoadNextCA(c.dir)
	if err != nil || ca.Hash() != hash {
		return nil
	}
	return ca
}

// use saves an identity and uses it.
func (c *caKeys) use(id *pki.Identity) error {
	if err := id.Save(c.dir); err != nil {
		return err
	}
	return c.port.SetIdentity(id)
}

func (c *caKeys) trust(cert *x509.Certificate) error {
	id := c.port.Identity()
	trusting, err := id.TrustCA(cert)
	if err != nil || trusting == id {
		return err
	}
	return c.use(trusting)
}

// sync trusts the CA that is announced or active, gets its certificate from the active one,
// and forgets what has expired. pending says that a CA may still be announced.
func (c *caKeys) sync(ctx context.Context, ring conf.Keyring, at string, pending bool) error {
	active, next := ring.Active(conf.KeyCA), ring.Next(conf.KeyCA)
	if active == nil || c.isForeign(active) {
		return nil // this cluster's own is not written yet
	}
	for _, k := range []*conf.Key{active, next} {
		if k == nil {
			continue
		}
		ca, err := c.decode(k.Public)
		if err != nil {
			return err
		}
		if err := c.trust(ca.cert); err != nil {
			return err
		}
		if err := c.fetchKey(ctx, k.ID); err != nil {
			return err
		}
	}
	id := c.port.Identity()
	if pki.HashCA(id.Issuer()) != active.ID {
		if err := c.switchTo(ctx, active.ID); err != nil {
			return err
		}
	}
	id = c.port.Identity()
	if pki.HashCA(id.Issuer()) != active.ID {
		return nil
	}
	if len(id.CAs) > 1 { // so that no call is cut when the old CA is forgotten
		c.port.CloseIdle()
	}
	for _, ca := range id.CAs {
		k := ring.Find(conf.KeyCA, pki.HashCA(ca))
		if k == nil || k.ID == active.ID {
			continue
		}
		if s := k.State(at); s == conf.KeyExpired || s == conf.KeyWithdrawn {
			fresh, err := id.DistrustCA(k.ID)
			if err != nil {
				return err
			}
			if err := c.use(fresh); err != nil {
				return err
			}
			c.log.Info("an old CA of the cluster is not trusted any more", "ca", k.ID)
			id = fresh
		}
	}
	if next == nil && !pending {
		return pki.DropNextCA(c.dir)
	}
	return nil
}

// fetchKey gets the key of a CA to a server that may have to issue by it.
func (c *caKeys) fetchKey(ctx context.Context, hash string) error {
	id := c.port.Identity()
	if id.Role != pki.RoleServer || (id.CA != nil && id.CA.Hash() == hash) || c.next(hash) != nil {
		return nil
	}
	text, err := pullKey(ctx, c.cluster, conf.KeyCA, hash, "")
	if err != nil {
		return err
	}
	ca, err := pki.ParseCAPEM([]byte(text))
	if err != nil || ca.Hash() != hash {
		return conf.Errorf(conf.CodeCorrupt, "the CA that was received is not %s", hash)
	}
	if hash == pki.HashCA(id.Issuer()) {
		if id, err = id.WithCA(ca); err != nil {
			return err
		}
		return c.use(id)
	}
	return pki.SaveNextCA(c.dir, ca)
}

// switchTo gets this agent a certificate from another CA that it trusts.
func (c *caKeys) switchTo(ctx context.Context, hash string) error {
	id := c.port.Identity()
	var fresh *pki.Identity
	var err error
	if id.Role == pki.RoleServer {
		ca := c.next(hash)
		if ca == nil {
			return conf.Errorf(conf.CodeNotFound, "the key of the CA %s is not here yet", hash)
		}
		fresh, err = id.SwitchCA(ca, pki.DefaultTTL, c.now())
	} else {
		leader, ok := c.cluster.Leader()
		if !ok {
			return nil
		}
		rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if fresh, err = c.port.Renew(rctx, leader); err == nil && pki.HashCA(fresh.Issuer()) != hash {
			return nil // the leader has not moved itself: in a moment
		}
	}
	if err != nil {
		return err
	}
	if err := c.use(fresh); err != nil {
		return err
	}
	c.log.Info("this agent has a certificate from the new CA", "ca", hash)
	return nil
}

// renewPause is how soon a certificate is not renewed again: one from a leader whose clock
// is ahead is not valid yet either.
const renewPause = 10 * time.Minute

// renew replaces this agent's certificate in the last third of its life, and one that a
// clock made which was ahead. A server has the CA's key; a sidecar asks the leader.
func (c *caKeys) renew(ctx context.Context) {
	id := c.port.Identity()
	if !id.NeedsRenewal(c.now()) || !c.renewed.IsZero() && time.Since(c.renewed) < renewPause {
		return
	}
	var (
		next *pki.Identity
		err  error
	)
	if id.CA != nil {
		next, err = id.Redate(pki.DefaultTTL, c.now())
	} else if leader, ok := c.cluster.Leader(); ok {
		next, err = c.port.Renew(ctx, leader)
	} else {
		return
	}
	if err == nil {
		err = next.Save(c.dir)
	}
	if err == nil {
		err = c.port.SetIdentity(next)
	}
	if err != nil {
		c.log.Warn("this agent's certificate was not renewed: it is tried again", "expires", id.Cert.NotAfter, "err", err)
		return
	}
	c.renewed = time.Now()
	c.log.Info("this agent's certificate was renewed", "expires", next.Cert.NotAfter)
}
