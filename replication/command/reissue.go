package command

import (
	"cmp"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reissue renews the signatures of services: each item replaces time, signature and
// key of the version that it names. An item changes nothing when its service has
// another version, or was issued later and not at the time that the item replaces. What it
// has of versions that are not stable changes those that are there by that number.
type Reissue struct {
	Epoch string        `json:"epoch"`
	At    string        `json:"at"` // conf.FormatTime's form
	KeyID string        `json:"key_id"`
	Items []ReissueItem `json:"items"` // each service once
}

// ReissueItem is the new signature of one service at one version.
type ReissueItem struct {
	Service   string `json:"service"`
	Version   uint64 `json:"version"`
	IssuedAt  string `json:"issued_at,omitempty"` // empty: the Reissue's At
	Signature string `json:"signature"`
	// VersionSignature is new too; empty: that of the service stays if the key does.
	VersionSignature string `json:"version_signature,omitempty"`
	// Replaces is the later issued_at of a clock that was ahead, which this item ends.
	Replaces string `json:"replaces,omitempty"`
	// Staged are the new signatures of the candidate, the revert and the kept revert.
	Staged []StagedItem `json:"staged,omitempty"`
}

// StagedItem is the new signature of a version that is not stable.
type StagedItem struct {
	Version          uint64 `json:"version"`
	IssuedAt         string `json:"issued_at"`
	Signature        string `json:"signature"`
	VersionSignature string `json:"version_signature,omitempty"`
	Replaces         string `json:"replaces,omitempty"` // as of a ReissueItem
}

// Kind is KindReissue.
func (*Reissue) Kind() Kind { return KindReissue }

// Issued returns the time of item i.
func (r *Reissue) Issued(i int) string { return cmp.Or(r.Items[i].IssuedAt, r.At) }

func checkReissue(r *Reissue) error {
	if err := cmp.Or(checkTime("at", r.At), checkText("reissue", r.Epoch, r.KeyID)); err != nil {
		return err
	}
	if len(r.Items) == 0 {
		return conf.Errorf(conf.CodeInternal, "encode a reissue: it has no items")
	}
	seen := make(map[string]bool, len(r.Items))
	return checkAll(r.Items, func(i ReissueItem) error {
		if seen[i.Service] {
			return conf.Errorf(conf.CodeInternal, "encode a reissue: %s is in it twice", i.Service)
		}
		seen[i.Service] = true
		return cmp.Or(
			conf.CheckService(i.Service), checkOptionalTime("issued_at of "+i.Service, i.IssuedAt), checkOptionalTime("issued_at of "+i.Service, i.Replaces),
			checkText(i.Service, i.Signature, i.VersionSignature),
			checkAll(i.Staged, func(v StagedItem) error {
				return cmp.Or(checkTime("issued_at of "+i.Service, v.IssuedAt), checkOptionalTime("issued_at of "+i.Service, v.Replaces), checkText(i.Service, v.Signature, v.VersionSignature))
			}))
	})
}
