package tables

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Columns of members.
const (
	MemberNode = iota
	MemberRole
	MemberService
	MemberAddr
	MemberVersion
	MemberKeyHash
	MemberJoined
	MemberRemoved
)

// Columns of join_tokens.
const (
	TokenID = iota
	TokenSecretHash
	TokenRole
	TokenService
	TokenExpires
	TokenUses
	TokenUsed
	TokenCreated
	TokenCreatedBy
	TokenRevoked
)

// Columns of api_tokens.
const (
	apiID = iota
	apiName
	apiRole
	apiHash
	apiExpires
	apiCreated
	apiCreatedBy
	APIRevoked
)

// MemberOf is a row of members.
func MemberOf(r *Row) conf.Member {
	return conf.Member{
		NodeID: r.Text(MemberNode), Role: r.Text(MemberRole), Service: r.Text(MemberService), Addr: r.Text(MemberAddr),
		Version: r.Text(MemberVersion), JoinedAt: r.Text(MemberJoined), RemovedAt: r.Text(MemberRemoved),
	}
}

// JoinTokenOf is a row of join_tokens: as the command created it, and as it is now.
func JoinTokenOf(r *Row) (command.JoinToken, conf.JoinTokenInfo) {
	jt := command.JoinToken{
		ID: r.Text(TokenID), SecretHash: r.Text(TokenSecretHash), Role: r.Text(TokenRole), Service: r.Text(TokenService),
		ExpiresAt: r.Text(TokenExpires), CreatedBy: r.Text(TokenCreatedBy), Uses: int(IntOf(r.Vals[TokenUses])),
	}
	return jt, conf.JoinTokenInfo{
		ID: jt.ID, Role: jt.Role, Service: jt.Service, ExpiresAt: jt.ExpiresAt, CreatedBy: jt.CreatedBy, CreatedAt: r.Text(TokenCreated),
		Uses: jt.Uses, Used: int(IntOf(r.Vals[TokenUsed])), Revoked: r.Vals[TokenRevoked] != nil,
	}
}

// CompareJoinTokens orders join tokens by their time.
func CompareJoinTokens(a, b conf.JoinTokenInfo) int {
	return cmp.Or(strings.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.ID, b.ID))
}

// NoJoinToken is the error for a join token that does not exist.
func NoJoinToken(id string) *conf.Error {
	return conf.Errorf(conf.CodeNotFound, "no join token %q", id).WithHint("list the tokens: holdfast token list")
}

// APITokenOf is a row of api_tokens.
func APITokenOf(r *Row) conf.APIToken {
	return conf.APIToken{
		APITokenInfo: conf.APITokenInfo{
			ID: r.Text(apiID), Name: r.Text(apiName), Role: conf.Role(r.Text(apiRole)), ExpiresAt: r.Text(apiExpires),
			CreatedAt: r.Text(apiCreated), CreatedBy: r.Text(apiCreatedBy), Revoked: r.Vals[APIRevoked] != nil,
		},
		SecretHash: r.Text(apiHash),
	}
}

// ReadAPITokens reads all API tokens by id.
func ReadAPITokens(ctx context.Context, q Querier, dig *Digester) (map[string]conf.APIToken, error) {
	out := map[string]conf.APIToken{}
	err := Each(ctx, q, dig, APITokens, func(r *Row) error {
		t := APITokenOf(r)
		out[t.ID] = t
		return nil
	})
	return out, err
}

// ReadKeyring reads all keys, in the order in which they were announced.
func ReadKeyring(ctx context.Context, q Querier, dig *Digester) (conf.Keyring, error) {
	ring := conf.Keyring{}
	err := Each(ctx, q, dig, Keyring, func(r *Row) error {
		ring = append(ring, conf.Key{
			Kind: r.Text(0), ID: r.Text(1), Public: r.Text(2), AnnouncedAt: r.Text(3), NotBefore: r.Text(4), NotAfter: r.Text(5),
			CreatedBy: r.Text(6), Proof: r.Text(7), Hold: IntOf(r.Vals[8]) == 1,
		})
		return nil
	})
	slices.SortStableFunc(ring, func(a, b conf.Key) int {
		return cmp.Or(strings.Compare(a.AnnouncedAt, b.AnnouncedAt), strings.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
	})
	return ring, err
}
