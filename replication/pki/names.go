package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Role is what a member of the cluster may do. Its certificate contains it.
type Role string

// The roles.
const (
	RoleServer  Role = "server"  // may vote and lead; has all keys
	RoleSidecar Role = "sidecar" // has a copy of the data, and the keys of its own service
)

// ParseRole reads a role.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case RoleServer, RoleSidecar:
		return r, nil
	}
	return "", conf.Errorf(conf.CodeInvalid, "no such role %.80q", s).WithHint("the roles are %s and %s", RoleServer, RoleSidecar)
}

// Peer is the member that a verified certificate names.
type Peer struct {
	NodeID   string
	Role     Role
	Serial   string    // of the certificate, hex
	NotAfter time.Time // when the certificate ends
	Key      string    // lower-case hex SHA-256 of its public key, as KeyHash returns it
}

var clusterRE = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

// CheckClusterID returns an error if s is no valid cluster id.
func CheckClusterID(s string) error {
	if !clusterRE.MatchString(s) {
		return conf.Errorf(conf.CodeInvalid, "bad cluster id %.80q", s).WithHint("a cluster id has 1 to 63 letters, digits and hyphens")
	}
	return nil
}

const scheme = "holdfast://"

func clusterName(clusterID string) string { return scheme + clusterID }

func nodeName(clusterID string, role Role, nodeID string) string {
	return scheme + clusterID + "/" + string(role) + "/" + nodeID
}

// parseNodeName is the strict inverse of nodeName.
func parseNodeName(s string) (clusterID string, role Role, nodeID string, err error) {
	bad := conf.Errorf(conf.CodeInvalid, "%.200q does not name a member", s)
	rest, ok := strings.CutPrefix(s, scheme)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || CheckClusterID(parts[0]) != nil || conf.CheckNode(parts[2]) != nil {
		return "", "", "", bad
	}
	if role, err = ParseRole(parts[1]); err != nil {
		return "", "", "", bad
	}
	return parts[0], role, parts[2], nil
}

// soleURI returns the name of a certificate that has exactly one, a URI.
func soleURI(c *x509.Certificate) (string, bool) {
	if len(c.URIs) != 1 || len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) > 0 {
		return "", false
	}
	return c.URIs[0].String(), true
}

// NodeOf returns the cluster and the member that a certificate names. It does not
// verify the certificate.
func NodeOf(c *x509.Certificate) (clusterID string, p Peer, err error) {
	uri, ok := soleURI(c)
	if !ok || c.IsCA {
		return "", Peer{}, conf.Errorf(conf.CodeInvalid, "the certificate is not that of a member: it must have one URI name and no other")
	}
	clusterID, role, nodeID, err := parseNodeName(uri)
	if err != nil {
		return "", Peer{}, err
	}
	return clusterID, Peer{NodeID: nodeID, Role: role, Serial: c.SerialNumber.Text(16), NotAfter: c.NotAfter, Key: certKey(c)}, nil
}

// certKey is KeyHash for a certificate.
func certKey(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
