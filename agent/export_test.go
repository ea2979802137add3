package agent

import (
	"github.com/holdfast-config/holdfast/agent/backend"
	"github.com/holdfast-config/holdfast/agent/backupjob"
	"github.com/holdfast-config/holdfast/agent/broker"
	"github.com/holdfast-config/holdfast/agent/documents"
	"github.com/holdfast-config/holdfast/agent/edit"
	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/agent/membership"
	"github.com/holdfast-config/holdfast/agent/options"
	"github.com/holdfast-config/holdfast/agent/peers"
	"github.com/holdfast-config/holdfast/agent/recovery"
	"github.com/holdfast-config/holdfast/agent/replica"
	"github.com/holdfast-config/holdfast/agent/rotation"
	"github.com/holdfast-config/holdfast/replication/pki"
)

// Rooms are the parts of an agent, for tests that look into them.
type Rooms struct {
	Members  *membership.Manager
	Cluster  *peers.Cluster
	Replicas *replica.Supervisor
	Backend  *backend.Backend
	Broker   *broker.Broker // nil when it is off
	Local    *broker.Broker // at CONFIG_MQTT_LOCAL_ADDR; nil when it is off
	Holder   *keys.Holder
	Keys     *rotation.AgentKeys
	Rotation *rotation.Manager
	View     *documents.View
	Recovery *recovery.Manager
	Backups  *backupjob.Manager
	Editor   *edit.Editor
}

// Rooms opens the agent to its tests.
func (a *Agent) Rooms() Rooms {
	r := a.rooms
	return Rooms{
		Members: a.members, Cluster: a.cluster, Replicas: a.replicas, Backend: a.backend, Broker: a.mqtt.main, Local: a.mqtt.local,
		Holder: r.holder, Keys: r.keys, Rotation: r.rotation, View: r.view, Recovery: r.recovery, Backups: r.backups, Editor: r.editor,
	}
}

// PageAddr is where an agent with the role serves its page, for CONFIG_UI_ADDR.
func PageAddr(role, addr string) string {
	return newPage(&options.Options{Ports: options.Ports{UIAddr: addr}}, pki.Role(role), nil).addr
}
