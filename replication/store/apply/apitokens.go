package apply

import (
	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// MaxAPITokens bounds api_tokens. One more replaces the oldest that was revoked or had
// expired at the time of the entry.
const MaxAPITokens = 1000

func (t *tx) changeAPITokens(c *command.APITokens) error {
	t.apiTokens = true // read again even after a rejection: it costs little and is always right
	for i := range c.Create {
		if err := t.putAPIToken(c.At, &c.Create[i]); err != nil {
			return err
		}
	}
	for _, id := range c.Revoke {
		missing := conf.Errorf(conf.CodeNotFound, "no API token %q", id).WithHint("list the tokens: holdfast token list")
		if err := t.end(tables.APITokens, id, tables.APIRevoked, c.At, missing); err != nil {
			return err
		}
	}
	return t.audit(c.Audit)
}

func (t *tx) putAPIToken(at string, n *command.APIToken) error {
	old, err := t.read(tables.APITokens, n.ID)
	if err != nil {
		return err
	}
	if old != nil {
		if is := tables.APITokenOf(old); is.SecretHash != n.SecretHash || is.Name != n.Name || string(is.Role) != n.Role || is.ExpiresAt != n.ExpiresAt {
			return reject(conf.CodeConflict, "there is another API token %s", n.ID)
		}
		return nil
	}
	if err := t.removeOldAPIToken(at); err != nil {
		return err
	}
	return t.insert(tables.APITokens, n.ID, n.Name, n.Role, n.SecretHash, tables.Null(n.ExpiresAt), at, tables.Null(n.CreatedBy), nil)
}

// removeOldAPIToken makes room for one more token.
func (t *tx) removeOldAPIToken(at string) error {
	all, err := tables.ReadAPITokens(t.ctx, t.w, t.dig)
	if err != nil || len(all) < MaxAPITokens {
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
		return rejection{conf.Errorf(conf.CodeInvalid, "there are %d API tokens that can be used", len(all)).
			WithHint("revoke some of them first: holdfast token revoke ID")}
	}
	return t.remove(tables.APITokens, oldest)
}
