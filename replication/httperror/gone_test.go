package httperror

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-config/holdfast/replication/conf"
)

func TestClientGone(t *testing.T) {
	here := t.Context()
	gone, cancel := context.WithCancel(here)
	cancel()
	late, cancel := context.WithTimeout(here, 0)
	defer cancel()
	canceled := fmt.Errorf("query: %w", context.Canceled)
	for name, c := range map[string]struct {
		ctx  context.Context
		err  error
		want bool
	}{
		"canceled":                          {gone, canceled, true},
		"canceled below an error of conf":   {gone, conf.Errorf(conf.CodeInternal, "read: %w", context.Canceled), true},
		"unavailable, because it was cut":   {gone, conf.Errorf(conf.CodeNoQuorum, "no leader is known"), true},
		"no error":                          {gone, nil, false},
		"a fault of the agent is a fault":   {gone, errors.New("disk I/O error"), false},
		"a mistake of the client":           {gone, conf.Errorf(conf.CodeNotFound, "no such service"), false},
		"canceled by the agent, not by it":  {here, canceled, false},
		"too slow":                          {late, fmt.Errorf("query: %w", context.DeadlineExceeded), false},
		"too slow, and canceled underneath": {late, canceled, false},
	} {
		if got := ClientGone(c.ctx, c.err); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
