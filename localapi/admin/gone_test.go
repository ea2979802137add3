package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// leaves is a backend whose client leaves while it works: what it does ends when its
// context does, or when the test lets it.
type leaves struct {
	*backend
	entered chan struct{}
	proceed chan struct{}
}

func (l leaves) work(ctx context.Context) error {
	l.entered <- struct{}{}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.proceed:
		return nil
	}
}

func (l leaves) Search(ctx context.Context, _ conf.SearchRequest) (conf.SearchResponse, error) {
	return conf.SearchResponse{}, l.work(ctx)
}

func (l leaves) History(ctx context.Context, _ conf.HistoryFilter) (conf.HistoryPage, error) {
	if err := l.work(ctx); err != nil {
		return conf.HistoryPage{}, conf.Errorf(conf.CodeInternal, "read the history: %w", err)
	}
	return conf.HistoryPage{}, nil
}

func (l leaves) Do(ctx context.Context, who conf.Principal, d conf.Draft) (conf.Outcome, error) {
	if err := l.work(ctx); err != nil {
		return conf.Outcome{}, conf.Errorf(conf.CodeNoQuorum, "the leadership cannot be confirmed: %w", err)
	}
	return l.backend.Do(ctx, who, d)
}

// A client that closes its side before it has the response is owed none; its leaving
// is no fault; and a change that it asked for is made all the same.
func TestClientThatHalfCloses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		request string
		writes  bool
	}{
		"search":  {"POST /api/config/search\n{\"query\":\"x\"}", false},
		"history": {"GET /api/config/history\n", false},
		"patch":   {"PATCH /api/config/services/stt-worker\n{\"level\":1}", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := leaves{entered: make(chan struct{}), proceed: make(chan struct{})}
			handled := make(chan struct{})
			s := newHarness(t, func(o *admin.Options) {
				l.backend = o.Queries.(*backend)
				o.Queries, o.Editor = l, l
			})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				gone := r.Context()
				defer close(handled)
				if c.writes { // it must not be stopped: let it go on only when the client is gone
					go func() { <-gone.Done(); close(l.proceed) }()
				}
				s.h.ServeHTTP(w, r)
			}))
			defer srv.Close()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			line, body, _ := strings.Cut(c.request, "\n")
			r := newRequest(strings.Fields(line)[0], strings.Fields(line)[1], body)
			r.Header.Set("X-API-Token", writeToken)
			if err := r.Write(conn); err != nil {
				t.Fatal(err)
			}
			<-l.entered
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			reply, err := io.ReadAll(conn)
			if err != nil && !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
			<-handled
			if c.writes != strings.HasPrefix(string(reply), "HTTP/1.1 200") || !c.writes && len(reply) > 0 {
				t.Errorf("the response is %q", reply)
			}
			if log := s.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
				t.Errorf("logged as a fault: %s", log)
			}
		})
	}
}
