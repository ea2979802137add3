package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/audit"
	"github.com/holdfast-config/holdfast/agent/backend"
	"github.com/holdfast-config/holdfast/agent/broker"
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
)

// Agent is one running agent. Make it with New, then call Run once.
type Agent struct {
	o    options.Options
	log  *slog.Logger
	info Info
	lock *os.File // held while the agent uses its directory

	members   *membership.Manager
	cluster   *peers.Cluster
	replicas  *replica.Supervisor
	status    *replica.Status
	documents *documents.LocalProvider
	lkg       *lkg.Writer
	audit     *audit.Log
	backend   *backend.Backend
	rooms     *rooms
	broker    *broker.Broker    // nil when it is off
	publisher *broker.Publisher // nil without an external broker

	listeners listeners
	local     *localapi.Server
	admin     *http.Server
	share     *admin.Limits // of the admin API among its callers
}

// listeners are the open ports of an agent.
type listeners struct {
	local, admin, socket net.Listener // socket is nil when it is off
	cluster              net.Listener // bound before a join, which uses up a token
}

// Info is what a person needs to know of a running agent.
type Info struct {
	AdminURL  string
	LocalURL  string
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
func New(ctx context.Context, o options.Options, log *slog.Logger) (_ *Agent, err error) {
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "data directory: %w", err).WithHint("set CONFIG_DATA_DIR to a directory that this user may write")
	}
	a := &Agent{o: o, log: log}
	defer func() {
		if err != nil {
			a.closeFiles()
		}
	}()
	if a.lock, err = process.LockDir(o.DataDir); err != nil {
		return nil, err
	}
	if a.o.NodeID, err = process.NodeID(o); err != nil {
		return nil, err
	}
	if err := a.listen(); err != nil {
		return nil, err
	}
	// Before the keys: a join brings them.
	holder := &keys.Holder{}
	if err := a.joinCluster(ctx, holder); err != nil {
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
		AdminURL: "http://" + process.Reachable(a.listeners.admin.Addr()), LocalURL: "http://" + a.listeners.local.Addr().String(), Cluster: a.cluster.Port.Addr(),
		NodeID: a.o.NodeID, DataDir: o.DataDir, EnvFile: o.EnvFile, Generated: generated.Names, Tokens: set.Tokens, Source: source,
	}
	if a.listeners.socket != nil {
		a.info.Socket = a.o.LocalSocket
	}
	return a, nil
}

func (a *Agent) listen() (err error) {
	if a.listeners.local, err = process.Listen("tcp", a.o.LocalAddr, "CONFIG_LOCAL_ADDR"); err != nil {
		return err
	}
	if a.listeners.admin, err = process.Listen("tcp", net.JoinHostPort(a.o.ManagerHost, a.o.ManagerPort), "CONFIG_MANAGER_HOST and CONFIG_MANAGER_PORT"); err != nil {
		return err
	}
	if a.listeners.cluster, err = process.Listen("tcp", a.o.ClusterAddr, "CONFIG_CLUSTER_ADDR"); err != nil {
		return err
	}
	a.listeners.socket, err = process.ListenSocket(a.o.LocalSocket, a.log)
	return err
}

// joinCluster gives this agent its identity, by a join if need be, and opens the cluster
// port. The keys of holder are set before the port starts.
func (a *Agent) joinCluster(ctx context.Context, holder *keys.Holder) error {
	list, err := peers.OpenMemberList(a.o.ClusterFile(), a.o.NodeID, a.log)
	if err != nil {
		return err
	}
	a.members = membership.New(membership.Options{
		Options: &a.o, Members: list, Keys: holder.Load, Audit: func(row conf.Access) { a.audit.Record(row) }, Logger: a.log,
	})
	id, err := a.members.Identity(ctx, func() func() error {
		return membership.ServePlaceholder(a.o.Join, a.listeners.local, a.listeners.socket, a.listeners.admin).Detach
	})
	if err != nil {
		return err
	}
	a.cluster, err = peers.Open(list, peers.Options{
		Identity: id, Listener: a.listeners.cluster, Advertise: a.o.Advertise(), ServiceName: a.o.ServiceName, Joiner: a.members.Joiner(id), Logger: a.log,
	})
	return err
}

// Info tells where a running agent is found.
func (a *Agent) Info() Info {
	i := a.info
	i.NodeID = a.cluster.Self()
	if a.broker != nil {
		i.MQTT = "mqtt://" + a.broker.Addr().String()
		if a.o.MQTTCert != "" {
			i.MQTT = "mqtts://" + a.broker.Addr().String()
		}
	}
	return i
}

// Health is this agent's health, from memory.
func (a *Agent) Health() conf.Health { return a.backend.Health() }

// AwaitReady returns when the agent is in normal mode, or with ctx's error.
func (a *Agent) AwaitReady(ctx context.Context) error {
	for {
		st := a.status.Get()
		if st.Mode == conf.ModeNormal {
			return nil
		}
		select {
		case <-st.Changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), a.status.Ready())
		}
	}
}
