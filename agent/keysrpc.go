package agent

import (
	"encoding/base64"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

// keyRoutes are what members ask of each other about keys. A key goes to servers
// only, over a connection on which both sides have shown who they are.
func (c *cluster) keyRoutes() {
	c.mux.HandleFunc("GET /keys/held", func(w http.ResponseWriter, r *http.Request) { answer(w, c.s.held(), nil) })
	c.mux.HandleFunc("GET /keys/ready", func(w http.ResponseWriter, r *http.Request) {
		kind := r.URL.Query().Get("kind")
		err := conf.CheckKeyKind(kind)
		if err == nil {
			err = c.canRotate(kind)
		}
		answer(w, struct{}{}, err)
	})
	c.mux.HandleFunc("POST /keys/take", c.takeRoute)
	c.mux.HandleFunc("GET /keys/pull", func(w http.ResponseWriter, r *http.Request) {
		k, err := c.give(r)
		answer(w, k, err)
	})
	c.mux.HandleFunc("GET /keys/granted", func(w http.ResponseWriter, r *http.Request) {
		k, err := c.giveAnew(r)
		answer(w, k, err)
	})
}

// giveAnew hands a sidecar the key of the service that it was admitted for, as it got
// it when it joined. What it tells of its service itself does not count.
func (c *cluster) giveAnew(r *http.Request) (pulledKey, error) {
	p, ok := transport.PeerFrom(r.Context())
	if !ok || p.Role != transport.RoleSidecar {
		return pulledKey{}, conf.Errorf(conf.CodeDenied, "only sidecars receive the key of a service")
	}
	ss := c.s.cur.Load()
	if ss == nil {
		return pulledKey{}, c.s.down()
	}
	service, err := ss.store.AdmittedFor(r.Context(), p.NodeID)
	if err != nil {
		return pulledKey{}, err
	}
	if service == "" {
		return pulledKey{}, conf.Errorf(conf.CodeDenied, "%s was admitted for no service, as far as node %s knows", p.NodeID, c.self())
	}
	id := r.URL.Query().Get("id")
	key, err := c.s.keys.Get().SecretKey(service, id)
	if err != nil {
		return pulledKey{}, err
	}
	c.log.Info("handing a sidecar the key of its service anew", "service", service, "key", id, "node", p.NodeID)
	c.s.auditRow(conf.Access{
		UserID: "join:" + p.NodeID, Action: "write", Success: true, Timestamp: conf.FormatTime(time.Now()),
		Reason: "received the key of " + service + " under the master key " + id + " anew",
	})
	return pulledKey{base64.StdEncoding.EncodeToString(key)}, nil
}

// give hands a key to another server, and what is derived for its service to a sidecar.
func (c *cluster) give(r *http.Request) (pulledKey, error) {
	p, ok := transport.PeerFrom(r.Context())
	kind, id := r.URL.Query().Get("kind"), r.URL.Query().Get("id")
	if err := conf.CheckKeyKind(kind); err != nil {
		return pulledKey{}, err
	}
	switch {
	case ok && p.Role == transport.RoleSidecar && kind == conf.KeyMaster:
		// What is derived for its service, under what it holds already: who claims
		// another service can do nothing with the answer.
		for _, m := range c.members() {
			if m.NodeID == p.NodeID && m.Service != "" {
				sealed, err := c.s.keys.Get().HandOn(m.Service, r.URL.Query().Get("have"), id)
				return pulledKey{sealed}, err
			}
		}
		return pulledKey{}, conf.Errorf(conf.CodeDenied, "%s is beside no service", p.NodeID)
	case !ok || p.Role != transport.RoleServer:
		return pulledKey{}, conf.Errorf(conf.CodeDenied, "only servers receive keys")
	case !slices.ContainsFunc(c.members(), func(m conf.Member) bool { return m.NodeID == p.NodeID && m.Role == string(p.Role) }):
		// Its row is older than its certificate. Who has none yet asks again.
		return pulledKey{}, conf.Errorf(conf.CodeDenied, "%s is not known as a server of this cluster", p.NodeID)
	}
	none := conf.Errorf(conf.CodeNotFound, "node %s does not have the %s key %.64q", c.self(), kind, id)
	if kind != conf.KeyCA {
		m, ok := c.s.keys.Get().Material(kind, id)
		if !ok {
			return pulledKey{}, none
		}
		c.log.Info("handing a key to another server", "kind", kind, "key", id, "node", p.NodeID)
		return pulledKey{m.Value}, nil
	}
	ca := c.nextCA(id)
	if own := c.port.Identity().CA; own != nil && own.Hash() == id {
		ca = own
	}
	if ca == nil {
		return pulledKey{}, none
	}
	data, err := ca.PEM()
	if err != nil {
		return pulledKey{}, err
	}
	c.log.Info("handing a key to another server", "kind", kind, "key", id, "node", p.NodeID)
	return pulledKey{string(data)}, nil
}
