package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// keepAPITokens bounds api_tokens. One more pushes out the oldest that was
// revoked or had expired by the time that the entry names.
const keepAPITokens = 1000

const (
	apiID = iota
	apiName
	apiRole
	apiHash
	apiExpires
	apiCreated
	apiCreatedBy
	apiRevoked
)

func (t *tx) apiTokens(c *command.APITokens) error {
	t.tokens = true // read again even after a refusal: it costs little and cannot be wrong
	for i := range c.Create {
		if err := t.putAPIToken(c.At, &c.Create[i]); err != nil {
			return err
		}
	}
	for _, id := range c.Revoke {
		old, err := readRow(t.ctx, t.w, t.dig, tableAPITokens, id)
		switch {
		case err != nil:
			return err
		case old == nil:
			return refusal{conf.Errorf(conf.CodeNotFound, "no API token %q", id).WithHint("list the tokens: holdfast token list")}
		case old.vals[apiRevoked] != nil:
			continue
		}
		vals := slices.Clone(old.vals)
		vals[apiRevoked] = c.At
		if err := t.upsert(tableAPITokens, old, vals...); err != nil {
			return err
		}
	}
	return t.audit(c.Audit)
}

func (t *tx) putAPIToken(at string, n *command.APIToken) error {
	old, err := readRow(t.ctx, t.w, t.dig, tableAPITokens, n.ID)
	if err != nil {
		return err
	}
	if old != nil {
		if is := apiTokenOf(old); is.SecretHash != n.SecretHash || is.Name != n.Name || string(is.Role) != n.Role || is.ExpiresAt != n.ExpiresAt {
			return refuse(conf.CodeConflict, "there is another API token %s", n.ID)
		}
		return nil
	}
	if err := t.forgetAPIToken(at); err != nil {
		return err
	}
	return t.insert(tableAPITokens, n.ID, n.Name, n.Role, n.SecretHash, null(n.ExpiresAt), at, null(n.CreatedBy), nil)
}

// forgetAPIToken makes room for one more token.
func (t *tx) forgetAPIToken(at string) error {
	all, err := readAPITokens(t.ctx, t.w, t.dig)
	if err != nil || len(all) < keepAPITokens {
		return err
	}
	oldest := ""
	for _, id := range conf.SortedKeys(all) {
		is := all[id]
		// Times of the log have one form, which sorts by time.
		if useless := is.Revoked || (is.ExpiresAt != "" && is.ExpiresAt <= at); useless && (oldest == "" || is.CreatedAt < all[oldest].CreatedAt) {
			oldest = id
		}
	}
	if oldest == "" {
		return refusal{conf.Errorf(conf.CodeInvalid, "there are %d API tokens that can be used", len(all)).
			WithHint("revoke some of them first: holdfast token revoke ID")}
	}
	return t.remove(tableAPITokens, oldest)
}

func apiTokenOf(r *row) conf.APIToken {
	return conf.APIToken{
		APITokenInfo: conf.APITokenInfo{
			ID: r.text(apiID), Name: r.text(apiName), Role: conf.Role(r.text(apiRole)), ExpiresAt: r.text(apiExpires),
			CreatedAt: r.text(apiCreated), CreatedBy: r.text(apiCreatedBy), Revoked: r.vals[apiRevoked] != nil,
		},
		SecretHash: r.text(apiHash),
	}
}

func readAPITokens(ctx context.Context, q querier, dig *digester) (map[string]conf.APIToken, error) {
	out := map[string]conf.APIToken{}
	err := eachRow(ctx, q, tableAPITokens, dig, func(vals []any, d [sha256.Size]byte) error {
		t := apiTokenOf(&row{vals, d})
		out[t.ID] = t
		return nil
	})
	return out, err
}

// APIToken is the API token with this id, from memory: as new as the last batch
// that was applied, without a query.
func (s *Store) APIToken(id string) (conf.APIToken, bool) {
	t, ok := s.state.Load().apiTokens[id]
	return t, ok
}

// APITokens are all API tokens by id, from memory. The map is not to be changed.
func (s *Store) APITokens() map[string]conf.APIToken { return s.state.Load().apiTokens }

// SortAPITokens lists tokens without their hashes, the newest first.
func SortAPITokens(all map[string]conf.APIToken) []conf.APITokenInfo {
	out := make([]conf.APITokenInfo, 0, len(all))
	for _, t := range all {
		out = append(out, t.APITokenInfo)
	}
	slices.SortFunc(out, func(a, b conf.APITokenInfo) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}
