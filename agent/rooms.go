package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast-config/holdfast/agent/audit"
	"github.com/holdfast-config/holdfast/agent/backend"
	"github.com/holdfast-config/holdfast/agent/backupjob"
	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/instances"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/lkg"
	"github.com/holdfast-config/holdfast/agent/membership"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/process"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/agent/renderjob"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/agent/rollout"
	"github.com/holdfast-config/holdfast/agent/rotation"
	"github.com/holdfast-config/holdfast/agent/scrape"
	"github.com/holdfast-config/holdfast/agent/served"
	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/ack"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/localapi/events"
	"github.com/holdfast-config/holdfast/localapi/ofrep"
	"github.com/holdfast-config/holdfast/localapi/ui"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/connlimit"
	"github.com/holdfast-config/holdfast/replication/pki"
	"github.com/holdfast-config/holdfast/replication/schema"
)

// rooms are the parts between the listeners and the replica.
type rooms struct {
	holder    *keys.Holder
	schemas   *schema.Cache
	keys      *rotation.AgentKeys
	rotation  *rotation.Manager
	reissuing *rotation.Reissuing
	sealer    *keys.Sealer
	secrets   *documents.Secrets
	served    *served.Served
	view      *documents.View // what is stable: what the log has. What this agent serves is in served
	recovery  *recovery.Manager
	backups   *backupjob.Manager
	files     *renderjob.Job // nil without CONFIG_RENDER
	scrape    *scrape.Server // nil without CONFIG_METRICS_ADDR
	instances *instanceRooms
	rollouts  *rollout.Manager
	editor    *edit.Editor // for callers: rejects changes while the agent is not in normal mode
	system    *edit.Editor // for the agent itself
}

// build wires everything below the servers, fills the view from the last-known-good file,
// and makes the servers. It returns what the view was filled from.
func (a *Agent) build(holder *keys.Holder, token string) (source string, err error) {
	r := &rooms{holder: holder, schemas: schema.NewCache(), keys: rotation.NewKeys(holder), sealer: keys.NewSealer(holder)}
	a.rooms = r
	r.sealer.Active = func() string { return r.keys.ActiveID(conf.KeyMaster) }
	r.secrets = documents.NewSecrets(documents.SecretsOptions{
		Lookup: a.o.LookupEnv, Allowed: a.o.EnvAllowed, Schemas: r.schemas, Sealer: r.sealer, Service: a.o.ServiceName, Logger: a.log,
	})
	r.view = documents.NewStableView()
	a.status = replica.NewStatus()
	loaded := a.loadLKG(r)
	a.buildReplicas(r, loaded)
	a.documents = documents.NewLocalProvider(r.served.Views().Served, a.replicas.Age)
	if err := r.instances.buildReporter(); err != nil {
		return "", err
	}
	source = r.view.Load().Source
	if err := a.buildBrokers(); err != nil {
		return "", err
	}
	return source, a.buildServers(r, holder.Load(), token)
}

// loadLKG fills the view from the last-known-good file, when it is valid, and makes the
// writer of the file.
func (a *Agent) loadLKG(r *rooms) *lkg.Content {
	hmacs := r.keys.Set().HMACKeys("")
	r.served = served.New(served.Options{
		Instance: a.o.InstanceName, Labels: a.o.Labels, Services: a.o.Services(), Dir: a.o.MarksDir(),
		Keys:   func() [][]byte { return r.keys.Set().HMACKeys(r.keys.ActiveID(conf.KeyHMAC)) },
		Views:  served.Views{Served: documents.NewView(r.secrets), Stable: r.view},
		Verify: func(rec *conf.Record) error { return recovery.VerifyRecord(rec, r.keys.PublicKeys()) },
		Logger: a.log,
	})
	loaded, err := lkg.Load(a.o.LKGPath, hmacs...)
	hmac, epoch, past := hmacs[0], "", []string(nil)
	var refused error
	switch {
	case err == nil:
		hmac = hmacs[loaded.KeyIndex] // until the replica tells which one is active
		r.served.Restore(loaded)
		epoch, past = loaded.Epoch, loaded.PastEpochs
		if err := loaded.Journal.Err; err != nil {
			a.log.Warn("not all of the last-known-good journal is used", "err", err, "hint", conf.HintOf(err))
		}
		a.log.Info("serving the last known good values", "services", len(loaded.Records), "epoch", loaded.Epoch, "generated_at", conf.FormatTime(loaded.GeneratedAt))
	case conf.CodeOf(err) == conf.CodeNotFound:
	default:
		a.status.SetLKGError(err)
		refused = err
	}
	provider := documents.NewLKGProvider(r.served.Snapshot, epoch, past, nil)
	a.lkg = lkg.NewWriter(a.o.LKGPath, hmac, provider, a.log, lkg.WriterOptions{Loaded: loaded, Refused: refused})
	r.served.Attach(a.lkg, provider.Past)
	return loaded
}

// buildReplicas makes the supervisor of the replicas and the rooms whose jobs it runs.
func (a *Agent) buildReplicas(r *rooms, loaded *lkg.Content) {
	r.recovery = recovery.New(recovery.Options{
		Options: &a.o, Cluster: a.cluster, View: r.view, Stable: r.served.Rebuilt, Schemas: r.schemas, Keys: r.keys, Sealer: r.sealer, LKG: a.lkg, Logger: a.log,
		SetStatus: func(event string) { a.status.Set(conf.DatabaseCorrupted, conf.ModeRebuilding, event, nil) },
	})
	archive := &backend.Archive{}
	eo := edit.Options{
		Proposer: archive, Records: documents.Records{View: r.view}, Archive: archive, Schemas: r.schemas, Sealer: r.sealer,
		Signer: r.keys.Signer, Now: a.o.Clock, CanSignVersions: a.cluster.CanSignVersions, Ready: func() error { return nil }, // the agent's own changes are what makes it ready
	}
	r.system = edit.New(eo)
	eo.Ready = func() error { return a.replicas.Writable() }
	eo.Confirm = func(ctx context.Context) error { return a.replicas.ConfirmLeadership(ctx) }
	r.editor = edit.New(eo)
	r.reissuing = rotation.NewReissuing(a.o.MQTTReissue, r.editor, r.view, eo.Ready, a.o.Clock, a.log)
	record := func(row conf.Access) { a.audit.Record(row) }
	r.rotation = rotation.New(rotation.Options{
		Options: &a.o, Keys: r.keys, Sealer: r.sealer, Cluster: a.cluster, View: r.view, Served: r.served, Secrets: r.secrets, LKG: a.lkg, Editor: r.editor,
		Audit: record, Pending: r.recovery.IsPending, NewCA: a.members.RenewTokenFiles, Logger: a.log,
	})
	r.backups = backupjob.New(backupjob.Options{
		Options: &a.o, Cluster: a.cluster, View: r.view, Schemas: r.schemas,
		KeyIDs: func() []string { return conf.SortedKeys(r.keys.PublicKeys()) }, Logger: a.log,
	})
	r.files = renderjob.New(renderjob.Options{Path: a.o.Render, View: r.served.Views().Served, Secrets: r.secrets, Logger: a.log})
	r.instances = a.buildTable()
	r.rollouts = a.buildRollouts(r)
	memberKeys := membership.NewMemberKeys(a.cluster, a.o.Clock, a.log)
	a.replicas = replica.New(replica.Options{
		Options: &a.o, Cluster: a.cluster, Status: a.status, View: r.view, Served: r.served, Schemas: r.schemas, Keys: r.rotation, Recovery: r.recovery,
		LKG: a.lkg, Editor: r.system, Loaded: loaded, Logger: a.log,
		Jobs: replica.Jobs{
			Life:       []replica.Job{r.rotation.RunKeySync, a.members.ProbeMembership, a.announce, r.backups.WatchLeader},
			Leader:     []replica.Job{a.members.RunAutopilot, memberKeys.Run, r.instances.lead, r.instances.leadMessages, r.leadRollouts, r.rotation.RunRotations, r.reissuing.Run, audit.PruneJob(a.o.AuditRetention, a.o.HistoryRetention, a.log), r.backups.RunBackup},
			Leadership: []replica.Job{a.members.RegisterSelf, r.rotation.RenewCertificate},
			Founder:    a.members.WriteTokenFiles,
			Rejoin:     a.members.Rejoin,
		},
	})
	archive.Supervisor = a.replicas
	memberKeys.Attach(a.replicas)
	a.audit = audit.New(a.o.AuditSpool(), audit.Sender(a.cluster, a.replicas), a.log)
	a.backend = backend.New(backend.Options{
		View: r.view, Served: r.served.Views().Served, Supervisor: a.replicas, Status: a.status, Schemas: r.schemas, Secrets: r.secrets, Editor: r.editor, LKG: a.lkg,
		Backups: r.backups, Keys: r.keys, Options: &a.o, Cluster: a.cluster, Ports: a.limits.ports, Remarks: []func() error{r.files.Err},
	})
	a.cluster.Attach(a.replicas, a.backend.Report)
	a.replicas.RegisterRoutes()
	a.members.Attach(a.cluster, a.replicas, a.status, r.recovery.IsPending)
	r.rotation.Attach(a.replicas)
	r.backups.Attach(a.replicas)
	audit.RegisterRoutes(a.cluster, a.replicas)
}

// announce is a job of the replica: it tells the other members where this agent is.
func (a *Agent) announce(ctx context.Context, r *replica.Replica) {
	membership.Announce(ctx, a.members, r)
}

// buildServers makes the two APIs.
func (a *Agent) buildServers(r *rooms, set keys.Set, token string) (err error) {
	registry := prometheus.NewRegistry()
	a.page = newPage(&a.o, a.cluster.Port.Identity().Role, a.log)
	registry.MustRegister(
		a.backend.Metrics(a.limits.admin), a.audit, r.reissuing, r.backups.Metrics(), broker.Metrics(a.mqtt.publisher, a.mqtt.embedded()...),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_log_dropped_total", Help: "Lines of the log that were dropped, because nothing read them."},
			func() float64 { return float64(process.DroppedLines(a.log)) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	r.files.Register(registry)
	registry.MustRegister(r.instances.table, r.rollouts)
	registry.MustRegister(a.vitals(r))
	r.scrape = scrape.New(a.o.MetricsAddr, registry, a.log)
	for _, p := range connlimit.Ports {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "holdfast_port_rejected_total", Help: "Connections that a port rejected, because it had as many as it may.", ConstLabels: prometheus.Labels{"port": string(p)},
		}, func() float64 { return float64(a.limits.ports.Rejected(p)) }))
	}
	a.local, err = localapi.New(localapi.Options{
		Service: a.o.ServiceName, Source: a.documents, Token: func() string { return token }, Keys: r.keys.VerificationKeys,
		Health: a.backend.Health, Ready: a.replicas.Serving, Explain: a.backend.ExplainHere, Logger: a.log, Metrics: registry,
		MaxConnections: a.limits.ports.Max(connlimit.Local), OnFull: a.full(connlimit.Local), Front: a.o.LocalFront == "on",
	})
	if err != nil {
		return err
	}
	ofrep.Register(a.local, r.schemas)
	ack.Register(a.local, r.instances.reporter, a.o.AckOpen)
	ao := admin.Options{
		Auth: &backend.Authenticator{
			Bootstrap: keys.NewAuthenticator(set.Tokens), Supervisor: a.replicas, TokensUnrevoked: r.recovery.TokensUnrevoked, Now: time.Now,
		},
		Audit: a.audit, Health: a.backend, Reader: a.backend, Queries: a.backend, Versions: a.backend, Schemas: a.backend, Profiles: a.backend,
		Editor: r.editor, ProfileEditor: r.editor, Rebuilder: a.backend, Cluster: clusterAPI{a.cluster, a.members},
		Keys: r.rotation, APITokens: backend.APITokens{Supervisor: a.replicas}, Secrets: a.backend, Backups: r.backups, Instances: r.instances, Rollouts: r.rollouts, Logger: a.log,
		Limits:      a.limits.admin,
		RequestKeys: func() [][]byte { return r.keys.Set().RequestKeys(r.keys.ActiveID(conf.KeyMaster)) },
		SessionKeys: func() [][]byte { return r.keys.Set().SessionKeys(r.keys.ActiveID(conf.KeyMaster)) },
		Links:       a.page.links, Version: a.o.Version, Insecure: a.o.AdminInsecure(),
	}
	// What members send here is answered here: only the port for callers forwards. A
	// member's address means all its callers, and it slows each of them by itself: one that
	// guesses must not lock out the rest.
	forMembers := ao
	forMembers.Consistent = a.replicas.ConfirmLeadership
	forMembers.FailRate, forMembers.FailBurst = 100, 1000
	forMembers.Self, forMembers.Caller = a.cluster.Self, peers.CallerOf
	h, err := admin.New(forMembers)
	if err != nil {
		return err
	}
	a.cluster.HandleAPI(replica.WithIndex(h, a.replicas))
	ao.Self = a.cluster.Self
	ao.Forward = &peers.Forwarder{Cluster: a.cluster, AwaitLocal: a.backend.AwaitLocal}
	ao.Consistent = a.replicas.Consistent
	ao.Age = func() (string, time.Duration) { return r.view.Load().Source, a.replicas.Age() }
	ao.Events = events.NewHub(r.instances.follow)
	hub := ao.Events
	r.instances.mirror = instances.NewMirror(a.cluster, r.instances.table, func() bool { return hub.Active() > 0 })
	ao.Relay = a.cluster.Port.Identity().Role == pki.RoleSidecar
	if h, err = admin.New(ao); err != nil {
		return err
	}
	a.admin = admin.NewServer(h)
	a.admin.ErrorLog = slog.NewLogLogger(a.log.Handler(), slog.LevelDebug) // of handshakes: anybody can fail one
	if a.o.AdminScheme() == "https://" {
		if a.admin.TLSConfig, err = process.AdminTLS(&a.o, a.log); err != nil {
			return err
		}
	} else if a.o.AdminInsecure() {
		a.log.Warn("the admin API and the web page are open to a network in plain HTTP: tokens and values can be read on the way; set CONFIG_MANAGER_TLS_CERT and CONFIG_MANAGER_TLS_KEY, or put TLS in front")
	}
	a.admin.Handler = ui.Over(h)
	a.admin.RegisterOnShutdown(ao.Events.Stop)
	return nil
}

// vitals are the metrics of what this agent is.
func (a *Agent) vitals(r *rooms) *scrape.Vitals {
	return &scrape.Vitals{
		Version: a.o.Version, Role: func() string { return string(a.cluster.Port.Identity().Role) }, Service: a.o.ServiceName,
		Raft: func() scrape.Raft {
			own, leader := a.backend.Report(), a.replicas.Leader()
			return scrape.Raft{Leads: leader == a.cluster.Self(), Leader: leader != "", Term: own.LastTerm, Last: own.LastIndex, Applied: own.Applied}
		},
		CertificateEnds: func() time.Time { return a.cluster.Port.Identity().Cert.NotAfter },
		LKGWritten:      func() time.Time { return a.lkg.Status().Written },
		Records:         documents.Records{View: r.view}.Services,
	}
}

// full is what a port calls when it rejects a connection for want of room.
func (a *Agent) full(p connlimit.Port) func() { return func() { a.limits.ports.Reject(p) } }

// clusterAPI is admin.Cluster.
type clusterAPI struct {
	*peers.Cluster
	*membership.Manager
}
