package scrape_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-config/holdfast/agent/scrape"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(base.NoLeaks(m)) }

func vitals(services int) *scrape.Vitals {
	var recs []*conf.Record
	for i := range services {
		recs = append(recs, &conf.Record{
			Service: "svc-" + string(rune('a'+i%26)) + strings.Repeat("x", i/26), Version: uint64(i + 1), Config: []byte(`{"k":"value"}`), //nolint:gosec // small
			UpdatedAt: "2026-01-02T03:04:05.000006+00:00",
		})
	}
	recs = append(recs, &conf.Record{Service: "gone", Version: 4, Deleted: true, Config: []byte("{}")})
	return &scrape.Vitals{
		Version: "v1.2.3", Role: func() string { return "server" }, Service: "svc-b",
		Raft:            func() scrape.Raft { return scrape.Raft{Leads: true, Leader: true, Term: 3, Last: 9, Applied: 8} },
		CertificateEnds: func() time.Time { return time.Unix(1_800_000_000, 0) },
		LKGWritten:      func() time.Time { return time.Time{} },
		Records:         func() []*conf.Record { return recs },
	}
}

func run(t *testing.T, v *scrape.Vitals) (get func(method, path string) (int, string)) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(v)
	s := scrape.New("127.0.0.1:0", registry, slog.New(slog.DiscardHandler))
	if s == nil {
		t.Fatal("no address")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	transport := &http.Transport{}
	t.Cleanup(func() {
		cancel()
		<-done
		transport.CloseIdleConnections()
	})
	return func(method, path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
}

// The address has the metrics and nothing else, and of configuration names and versions only.
func TestServer(t *testing.T) {
	get := run(t, vitals(3))
	code, body := get("GET", "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		`holdfast_build_info{go_version="go`, "holdfast_leader 1\n", "holdfast_leader_known 1\n", "holdfast_raft_term 3\n",
		"holdfast_raft_last_index 9\n", "holdfast_raft_applied_index 8\n", "holdfast_certificate_end_timestamp_seconds 1.8e+09\n",
		`holdfast_service_version{service="svc-c"} 3`, `holdfast_service_updated_timestamp_seconds{service="svc-a"} 1.767323045000006e+09`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("there is no %q in\n%s", want, body)
		}
	}
	for _, not := range []string{"gone", "value", "holdfast_lkg_written"} {
		if strings.Contains(body, not) {
			t.Errorf("%q is in\n%s", not, body)
		}
	}
	for _, bad := range [][2]string{{"POST", "/metrics"}, {"GET", "/"}, {"GET", "/v1/config/svc-a"}, {"GET", "/api/config/services"}, {"GET", "/metrics/"}} {
		if code, _ := get(bad[0], bad[1]); code != 404 && code != 405 {
			t.Errorf("%s %s: %d", bad[0], bad[1], code)
		}
	}
}

// Of very many services only that of the agent has metrics.
func TestManyServices(t *testing.T) {
	_, body := run(t, vitals(scrape.MaxServices))("GET", "/metrics")
	if n := strings.Count(body, "\nholdfast_service_version{"); n != 1 || !strings.Contains(body, `holdfast_service_version{service="svc-b"} 2`) {
		t.Errorf("%d services have a version", n)
	}
}

// An address that is taken is said, and no reason to fail.
func TestTaken(t *testing.T) {
	registry := prometheus.NewRegistry()
	var log strings.Builder
	first := scrape.New("127.0.0.1:0", registry, slog.New(slog.DiscardHandler))
	defer first.Close()
	second := scrape.New(first.Addr().String(), registry, slog.New(slog.NewTextHandler(&log, nil)))
	if second != nil || !strings.Contains(log.String(), "CONFIG_METRICS_ADDR") {
		t.Errorf("%v, log: %s", second, log.String())
	}
	second.Run(t.Context())
	second.Close()
	if scrape.New("none", registry, nil) != nil || scrape.New("", registry, nil) != nil {
		t.Error("it is not off")
	}
}
