// Package pki is the cluster's public key infrastructure: its certificate authority,
// the certificates of members, and the files in which an agent keeps both.
//
// A member's certificate has one URI SAN, holdfast://CLUSTER/ROLE/NODE, and no other
// name. It says who the member is (NodeOf); the package transport verifies it in each
// handshake. Servers hold the CA's key and issue certificates by it; sidecars do not.
//
// A CA is replaced in steps: NextCA makes one that the CA before it endorses, members
// trust both (TrustCA), servers take certificates from the new one (SwitchCA), and the
// old one is removed (DistrustCA). A member that was offline meanwhile accepts the new
// CA by its endorsement (Endorsed).
//
// Invariants:
//
//   - An Identity is consistent: key, certificate and CAs belong to one member of one
//     cluster. It never changes; each method that replaces a part returns another one.
//   - An Identity is complete on disk or absent: node.pem is written last, and after a
//     crash between two files LoadIdentity finds the old one, the new one, or none.
//   - A certificate that has expired is still loaded: a server reissues its own.
//   - Keys are ECDSA P-256; a CSR may have an Ed25519 key too, and at most 4 KiB.
//
// The package has no goroutines and no state; all of it may be called from any goroutine.
// Save and SaveNextCA write files and must not run concurrently for one directory.
package pki
