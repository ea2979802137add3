package transport

import "github.com/holdfast-config/holdfast/replication/pki"

// The names of package pki under which the agent still uses them.
type (
	// CA is pki.CA.
	CA = pki.CA
	// Identity is pki.Identity.
	Identity = pki.Identity
	// Peer is pki.Peer.
	Peer = pki.Peer
	// Role is pki.Role.
	Role = pki.Role
)

// The constants and functions of package pki that the agent uses.
const (
	RoleServer  = pki.RoleServer
	RoleSidecar = pki.RoleSidecar
	DefaultTTL  = pki.DefaultTTL
)

var (
	Bootstrap    = pki.Bootstrap
	CheckNodeID  = pki.CheckNodeID
	ClusterOf    = pki.ClusterOf
	DropNextCA   = pki.DropNextCA
	Endorsed     = pki.Endorsed
	HashCA       = pki.HashCA
	LoadIdentity = pki.LoadIdentity
	LoadNextCA   = pki.LoadNextCA
	NewCA        = pki.NewCA
	NewCSR       = pki.NewCSR
	NewIdentity  = pki.NewIdentity
	NewKey       = pki.NewKey
	NextCA       = pki.NextCA
	NodeKey      = pki.NodeKey
	ParseCA      = pki.ParseCA
	ParseCAPEM   = pki.ParseCAPEM
	ParseRole    = pki.ParseRole
	SaveNextCA   = pki.SaveNextCA
)
