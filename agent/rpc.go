package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/replication"
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/transport"
)

type readIndex struct {
	Index uint64 `json:"index"`
}

// nodeReport is what a member says of itself.
type nodeReport struct {
	LastTerm    uint64            `json:"last_term"`
	LastIndex   uint64            `json:"last_index"`
	Applied     uint64            `json:"applied"`
	LastContact time.Duration     `json:"last_contact"` // nanoseconds
	Version     string            `json:"version"`
	Epoch       string            `json:"config_epoch"`
	Digest      string            `json:"digest"`
	CertExpires string            `json:"certificate_expires"`
	Services    map[string]uint64 `json:"services"`
	Full        bool              `json:"full"` // too little space to lead
	Health      conf.Health       `json:"health"`
	Since       string            `json:"since"` // of what the health tells
	Knows       uint64            `json:"knows"` // command.Known of its build
}

// routes are what members may ask of each other. The certificate has said who
// asks; what only a server or only the leader may do is checked here.
func (c *cluster) routes(api http.Handler) {
	c.mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { answer(w, c.report(), nil) })
	c.mux.HandleFunc("GET /readindex", func(w http.ResponseWriter, r *http.Request) {
		ss, err := c.own()
		if err != nil {
			answer(w, nil, err)
			return
		}
		index, err := ss.member.ReadIndex(r.Context())
		answer(w, readIndex{index}, err)
	})
	c.mux.HandleFunc("POST /hello", func(w http.ResponseWriter, r *http.Request) {
		var m command.Member
		answer(w, struct{}{}, c.leaderOnly(w, r, &m, func(ctx context.Context, ss *session, p transport.Peer) error {
			m.NodeID, m.Role = p.NodeID, string(p.Role) // the certificate's word, not the caller's
			return ss.enroll(ctx, m)
		}))
	})
	c.mux.HandleFunc("POST /access", func(w http.ResponseWriter, r *http.Request) {
		var a command.Audit
		answer(w, struct{}{}, c.leaderOnly(w, r, &a, func(ctx context.Context, ss *session, p transport.Peer) error {
			if err := checkReported(&a); err != nil {
				return err
			}
			notAhead(a.Rows, time.Now())
			a.Source = queueOf(p.NodeID, p.Role == transport.RoleServer, a.Source)
			return settled(ss.member.Propose(ctx, &a))
		}))
	})
	c.mux.HandleFunc("POST /leave", func(w http.ResponseWriter, r *http.Request) {
		var none struct{}
		answer(w, none, c.leaderOnly(w, r, &none, func(ctx context.Context, ss *session, p transport.Peer) error {
			return c.remove(ctx, ss, "leave:"+p.NodeID, p.NodeID)
		}))
	})
	c.mux.HandleFunc("GET /backup", func(w http.ResponseWriter, r *http.Request) { answer(w, c.s.ownBackup(), nil) })
	c.mux.HandleFunc("GET /digest", func(w http.ResponseWriter, r *http.Request) {
		index, err := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
		if err != nil {
			answer(w, nil, conf.Errorf(conf.CodeMalformed, "which index?"))
			return
		}
		var d digestReport
		if ss := c.s.cur.Load(); ss != nil {
			d.Digest, d.Known = ss.store.DigestAt(index)
		}
		answer(w, d, nil)
	})
	c.mux.HandleFunc("POST /rejoin", func(w http.ResponseWriter, r *http.Request) {
		var req rejoinRequest
		var g rejoinGrant
		err := c.leaderOnly(w, r, &req, func(ctx context.Context, ss *session, p transport.Peer) (err error) {
			g, err = c.readmit(ctx, ss, p, req)
			return err
		})
		answer(w, g, err)
	})
	c.mux.HandleFunc("POST /retire", func(w http.ResponseWriter, r *http.Request) {
		var req retireRequest
		answer(w, struct{}{}, c.leaderOnly(w, r, &req, func(ctx context.Context, ss *session, p transport.Peer) error {
			return ss.dismiss(ctx, p.NodeID, req.NodeID)
		}))
	})
	c.mux.HandleFunc("POST /join", func(w http.ResponseWriter, r *http.Request) {
		var req transport.JoinRequest
		var g transport.JoinGrant
		err := c.leaderOnly(w, r, &req, func(ctx context.Context, ss *session, p transport.Peer) (err error) {
			if p.Role != transport.RoleServer {
				return conf.Errorf(conf.CodeDenied, "only servers pass joins on")
			}
			if err := req.Check(); err != nil {
				return err
			}
			g, err = c.admit(ctx, req)
			return err
		})
		answer(w, g, err)
	})
	c.keyRoutes()
	c.mux.Handle("/api/", api)
}

// own is the running session of this agent, while it leads.
func (c *cluster) own() (*session, error) {
	ss := c.s.cur.Load()
	if ss == nil || !ss.leads() {
		return nil, conf.Errorf(conf.CodeNoQuorum, "this agent does not lead")
	}
	return ss, nil
}

func (c *cluster) leaderOnly(w http.ResponseWriter, r *http.Request, in any, do func(context.Context, *session, transport.Peer) error) error {
	p, ok := transport.PeerFrom(r.Context())
	if !ok {
		return conf.Errorf(conf.CodeDenied, "no certificate")
	}
	if err := decodeBody(w, r, in); err != nil {
		return err
	}
	ss, err := c.own()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	return do(ctx, ss, p)
}

func decodeBody(w http.ResponseWriter, r *http.Request, in any) error {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, conf.MaxDocument)).Decode(in); err != nil {
		return conf.Errorf(conf.CodeMalformed, "the request does not decode: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		v = map[string]any{"success": false, "code": conf.CodeOf(err), "error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// report is this agent's state. It answers without a session too.
func (c *cluster) report() nodeReport {
	r := nodeReport{
		Version: c.o.Version, Knows: c.knows.Load(), Health: c.s.Health(), Since: conf.FormatTime(c.s.st.began()), Services: map[string]uint64{},
		CertExpires: conf.FormatTime(c.port.Identity().Cert.NotAfter),
	}
	r.Full = c.s.full.Load() != nil
	snap := c.s.view.Load()
	r.Epoch = snap.Epoch
	snap.Range(func(e *entry) bool {
		if e.Record.Exists() {
			r.Services[e.Record.Service] = e.Record.Version
		}
		return true
	})
	if ss := c.s.cur.Load(); ss != nil {
		r.LastTerm = ss.member.Term()
		r.LastIndex, r.Applied = ss.member.Indexes()
		r.Digest = ss.store.Digest()
		if t := ss.member.LastContact(); !t.IsZero() {
			r.LastContact = time.Since(t)
		}
	}
	return r
}

// nodeStats is what autopilot asks of a member.
func (c *cluster) nodeStats(ctx context.Context, id, _ string) (replication.NodeStats, error) {
	var r nodeReport
	if err := c.call(ctx, id, "/status", nil, &r); err != nil {
		return replication.NodeStats{}, err
	}
	c.builds.told(id, r.Version, r.Knows)
	return replication.NodeStats{LastTerm: r.LastTerm, LastIndex: r.LastIndex, LastContact: r.LastContact}, nil
}

// remove takes a member out: first of Raft, then its row, which closes the port
// to its certificate.
func (c *cluster) remove(ctx context.Context, ss *session, by, node string) error {
	if node == c.self() {
		if err := ss.member.Transfer(ctx, ""); err != nil {
			return conf.Errorf(conf.CodeConflict, "the leader cannot leave before another voter leads: %w", err).
				WithHint("wait until another server is a voter: holdfast cluster status")
		}
		return conf.Errorf(conf.CodeNoQuorum, "leadership was given away first").WithHint("send it again")
	}
	if err := ss.member.Remove(ctx, node); err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return err
	}
	at := conf.FormatTime(time.Now())
	res, err := ss.member.Propose(ctx, &command.Cluster{
		At: at, By: by, MemberRemoves: []string{node},
		Audit: []conf.Access{{UserID: by, Action: "write", Success: true, Reason: "member " + node + " removed", Timestamp: at}},
	})
	if err == nil && res.Err != nil {
		err = res.Err
	}
	if err != nil {
		return err
	}
	if members, merr := ss.store.Members(ctx); merr == nil {
		c.learn(members) // now, and not with the next look: its certificate opens nothing any more
	}
	return nil
}
