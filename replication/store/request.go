package store

import (
	"context"
	"encoding/json"

	"github.com/holdfast-config/holdfast/replication/command"
)

// RequestResult is the result of an Edit that was applied with this id before,
// and whether there was one among those that are kept. It may be called from
// any goroutine.
func (s *Store) RequestResult(ctx context.Context, id string) (command.Result, bool, error) {
	var res command.Result
	found := false
	err := s.read(ctx, "read a request's result", func(q querier) error {
		r, err := readRow(ctx, q, newDigester(), tableRequests, id)
		if err != nil || r == nil {
			return err
		}
		var was storedResult
		if err := json.Unmarshal([]byte(r.text(2)), &was); err != nil {
			return corrupt("the result of request %q: %w", id, err)
		}
		res, found = command.Result{Index: uintOf(r.vals[1]), Versions: was.Versions, Duplicate: true}, true
		return nil
	})
	return res, found, err
}
