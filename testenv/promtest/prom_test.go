package promtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/testenv"
	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

var rules = filepath.Join(testenv.Root(), "docs/deploy/prometheus")

// Each alert fires for its fault and for nothing else, as promtool computes it.
func TestRules(t *testing.T) {
	t.Parallel()
	base.Need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}, {"check", "config", "--syntax-only", "prometheus.yaml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = rules
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// A real Prometheus scrapes three agents. The names of the metrics pass promtool, each query
// of the dashboard has a result, each alert can be computed, none fires, and that of an agent
// that is gone does.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	base.Need(t, "promtool", "prometheus")
	backups := t.TempDir()
	c := testenv.StartCluster(t, 3, 0, "CONFIG_METRICS_ADDR=127.0.0.1:0", "LITESTREAM_S3_ENDPOINT=file://"+backups)
	var targets []string
	for _, n := range c.Live() {
		addr := ""
		base.Await(t, "the address of the metrics", func() bool {
			_, rest, ok := strings.Cut(n.Log(), `url=http://`)
			addr, _, _ = strings.Cut(rest, "/metrics")
			return ok
		})
		targets = append(targets, addr)
	}
	metrics := fetch(t, "http://"+targets[0]+"/metrics")
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(metrics)
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	dir := t.TempDir()
	config := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\nrule_files: [%s]\nscrape_configs:\n- job_name: holdfast\n  static_configs:\n  - targets: [%s]\n",
		filepath.Join(rules, "rules.yaml"), strings.Join(targets, ", "))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	var log strings.Builder
	prom := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen)
	prom.Stdout, prom.Stderr = &log, &log
	if err := prom.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = prom.Process.Kill()
		_ = prom.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	query := func(expr string) (results int, ok bool) { return ask(t, listen, expr) }
	base.Await(t, "three agents that answer, for long enough to have rates", func() bool {
		n, ok := query(`count_over_time(up{job="holdfast"}[1m]) > 20`)
		return ok && n == 3
	})
	leader := c.Leader()
	if out, code := leader.Holdfast("set", "stt-worker", "vad_threshold=0.61"); code != 0 {
		t.Fatalf("%d %s", code, out)
	}
	base.Await(t, "a backup that was tried", func() bool {
		n, ok := query(`holdfast_backup_verified_timestamp_seconds > 0`)
		return ok && n == 1
	})
	for _, expr := range dashboard(t) {
		base.Await(t, "a result of "+expr, func() bool {
			n, ok := query(expr)
			return ok && n > 0
		})
	}
	if n, ok := query(`holdfast_leader == 1`); !ok || n != 1 {
		t.Errorf("%d agents lead", n)
	}
	base.Await(t, "no alert", func() bool {
		n, ok := query(`ALERTS{alertname!~"HoldfastBackup.*"}`)
		return ok && n == 0
	})
	c.Followers()[0].Kill()
	base.Await(t, "the alert of an agent that is gone", func() bool {
		n, ok := query(`ALERTS{alertname="HoldfastAgentDown"}`)
		return ok && n == 1
	})
}

// dashboard returns the queries of the dashboard.
func dashboard(t *testing.T) (out []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testenv.Root(), "docs/deploy/grafana/holdfast.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			out = append(out, q.Expr)
		}
	}
	if len(out) < 20 {
		t.Fatalf("the dashboard has %d queries", len(out))
	}
	return out
}

func ask(t *testing.T, addr, expr string) (results int, ok bool) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0, false // it starts
	}
	defer resp.Body.Close()
	var body struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return 0, false
	}
	if body.Status != "success" && resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%s: %s", expr, body.Error)
	}
	return len(body.Data.Result), body.Status == "success"
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", url, resp.StatusCode, err)
	}
	return string(data)
}
