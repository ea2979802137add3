package command

import (
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Reissue signs services anew without changing them: each item replaces time,
// signature and key of the version that it names. An item whose service has
// another version by now, or was issued later already, changes nothing.
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
}

// Kind is KindReissue.
func (*Reissue) Kind() Kind { return KindReissue }

// Issued is the time that item i carries.
func (r *Reissue) Issued(i int) string {
	if at := r.Items[i].IssuedAt; at != "" {
		return at
	}
	return r.At
}

func checkReissue(r *Reissue) error {
	if err := checkTime("at", r.At); err != nil {
		return err
	}
	if err := text("reissue", r.Epoch, r.KeyID); err != nil {
		return err
	}
	if len(r.Items) == 0 {
		return conf.Errorf(conf.CodeInternal, "encode a reissue of nothing")
	}
	seen := make(map[string]bool, len(r.Items))
	for i := range r.Items {
		it := &r.Items[i]
		if err := conf.CheckService(it.Service); err != nil {
			return err
		}
		if seen[it.Service] {
			return conf.Errorf(conf.CodeInternal, "encode a reissue: %s is in it twice", it.Service)
		}
		seen[it.Service] = true
		if it.IssuedAt != "" {
			if err := checkTime("issued_at of "+it.Service, it.IssuedAt); err != nil {
				return err
			}
		}
		if err := text(it.Service, it.Signature); err != nil {
			return err
		}
	}
	return nil
}
