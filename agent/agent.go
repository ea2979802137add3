package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/audit"
	"github.com/holdfast-config/holdfast/agent/backend"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/membership"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
)

// Agent is one running agent. Make it with New, then call Run once.
type Agent struct {
	o    options.Options
	log  *slog.Logger
	info Info
	held *process.Held // while the agent uses its directory

	members   *membership.Manager
	cluster   *peers.Cluster
	replicas  *replica.Supervisor
	status    *replica.Status
	documents *documents.LocalProvider
	lkg       *lkg.Writer
	audit     *audit.Log
	backend   *backend.Backend
	rooms     *rooms
	mqtt      brokers

	clusterL net.Listener // bound before a join, which uses up a token
	local    *localapi.Server
	admin    *http.Server
	limits   limits
	page     *page
}

// limits are what the callers of this agent share.
type limits struct {
	admin *admin.Limits
	ports *connlimit.Budget
}

// Info is what a person needs to know of a running agent.
type Info struct {
	AdminURL  string
	LocalURL  string
	PageURL   string // the web page
	Cluster   string // where other agents join
	Socket    string // "" when it is off
	MQTT      string // the embedded broker; "" when it is off
	NodeID    string
	DataDir   string
	EnvFile   string
	Generated []string     // names of the variables that this start added to the .env file
	Tokens    []keys.Token // the API tokens; never log them
	Source    string       // what the view was filled from before the replica: lkg or ""
	Registry  prometheus.Gatherer
}

// New builds an agent and opens its listeners. When it returns, the local API answers from
// the last-known-good file, if there is a valid one. It fails when the settings, the keys
// or the ports are not usable, and then leaves nothing open. The error of keys that could
// not be written has a method Lines() with the lines for the .env file, for the caller to
// print once.
func New(ctx context.Context, o options.Options, log *slog.Logger) (*Agent, error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	held, err := process.Hold(&o, log)
	if err != nil {
		return nil, err
	}
	a, err := NewWith(ctx, o, held, log)
	if err != nil {
		held.Close()
	}
	return a, err
}

// NewWith is New with the lock and the ports that the process has. When it fails they stay
// open, and what serves at them continues.
func NewWith(ctx context.Context, o options.Options, held *process.Held, log *slog.Logger) (_ *Agent, err error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := held.Err(); err != nil {
		return nil, err
	}
	a := &Agent{o: o, log: log, limits: limits{admin.NewLimits(), connlimit.NewBudget(connlimit.Descriptors(), log)}}
	defer func() {
		if err != nil {
			a.closeFiles()
		}
	}()
	if a.o.NodeID, err = process.NodeID(o); err != nil {
		return nil, err
	}
	if a.clusterL, err = process.Listen("tcp", a.o.ClusterAddr, "CONFIG_CLUSTER_ADDR"); err != nil {
		return nil, err
	}
	// Before the keys: a join brings them.
	holder := &keys.Holder{}
	if err := a.joinCluster(ctx, held, holder); err != nil {
		return nil, err
	}
	set, generated, err := keys.Load(o.Env, o.EnvFile, keys.Options{
		Role: string(a.cluster.Port.Identity().Role), Joined: a.cluster.Joined(),
	})
	if err != nil {
		return nil, err
	}
	holder.Store(set)
	for _, w := range generated.Warnings {
		log.Warn(w)
	}
	token, err := process.LocalToken(o.LocalTokenFile())
	if err != nil {
		return nil, err
	}
	source, err := a.build(holder, token)
	if err != nil {
		return nil, err
	}
	a.info = Info{
		AdminURL: a.o.AdminScheme() + process.Reachable(held.Admin.Addr()), LocalURL: "http://" + held.Local.Addr().String(), Cluster: a.cluster.Port.Addr(),
		NodeID: a.o.NodeID, DataDir: o.DataDir, EnvFile: o.EnvFile, Generated: generated.Names, Tokens: set.Tokens, Source: source,
	}
	if a.info.PageURL = a.page.listen(a.info.AdminURL); a.page.listener != nil {
		held.Announce(&a.o, a.page.listener, log)
	}
	if held.Socket != nil {
		a.info.Socket = a.o.LocalSocket
	}
	a.held = held
	return a, nil
}

// joinCluster gives this agent its identity, by a join if need be, and opens the cluster
// port. The keys of holder are set before the port starts.
func (a *Agent) joinCluster(ctx context.Context, held *process.Held, holder *keys.Holder) error {
	list, err := peers.OpenMemberList(a.o.ClusterFile(), a.o.NodeID, a.log)
	if err != nil {
		return err
	}
	a.members = membership.New(membership.Options{
		Options: &a.o, Members: list, Keys: holder.Load, Audit: func(row conf.Access) { a.audit.Record(row) }, Logger: a.log,
	})
	secure, err := process.AdminTLS(&a.o, a.log)
	if err != nil {
		return err
	}
	id, err := a.members.Identity(ctx, func() func() error {
		return membership.ServePlaceholder(a.o.Join, held.Local, held.Socket, held.Admin, secure).Detach
	})
	if err != nil {
		return err
	}
	a.cluster, err = peers.Open(list, peers.Options{
		Identity: id, Listener: a.clusterL, Advertise: a.o.Advertise(), ServiceName: a.o.ServiceName, Joiner: a.members.Joiner(id), Now: a.o.Clock, Logger: a.log,
		Conns: a.limits.ports.Max(connlimit.Cluster), OnFull: a.full(connlimit.Cluster),
	})
	return err
}

// Info tells where a running agent is found.
func (a *Agent) Info() Info {
	i := a.info
	i.NodeID = a.cluster.Self()
	if a.mqtt.main != nil {
		i.MQTT = "mqtt://" + a.mqtt.main.Addr().String()
		if a.o.MQTTCert != "" {
			i.MQTT = "mqtts://" + a.mqtt.main.Addr().String()
		}
	}
	return i
}

// Health is this agent's health, from memory.
func (a *Agent) Health() conf.Health { return a.backend.Health() }

// AwaitReady returns when the health shows normal mode, or with ctx's error.
func (a *Agent) AwaitReady(ctx context.Context) error {
	again := time.NewTicker(100 * time.Millisecond) // whether there is a leader is no change of the status
	defer again.Stop()
	for {
		st := a.status.Get()
		h := a.Health()
		if h.OperationalMode == conf.ModeNormal {
			return nil
		}
		select {
		case <-st.Changed:
		case <-again.C:
		case <-ctx.Done():
			if h.Err != nil && st.Mode == conf.ModeNormal {
				return conf.Errorf(conf.CodeNoQuorum, "%s: %w", *h.Err, ctx.Err())
			}
			return errors.Join(ctx.Err(), a.status.Ready())
		}
	}
}
