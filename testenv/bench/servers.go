package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// documentSize is about what a service's document of 50 keys has, so that both
// sides store as much.
const documentSize = 1100

// agentGroup is a cluster of three servers of the binary under test.
type agentGroup struct {
	b       *bench
	members [3]*agent
}

// startAgents forms a cluster by join tokens, with a service for each client, and
// with brokers when mqtt.
func startAgents(b *bench, services int, mqtt bool) (*agentGroup, error) {
	kind := "cluster"
	if mqtt {
		kind = "mqtt"
	}
	schemas := filepath.Join(b.dir, kind+"-schemas")
	if err := os.MkdirAll(schemas, 0o700); err != nil {
		return nil, err
	}
	for i := range services {
		if err := os.WriteFile(filepath.Join(schemas, service(i)+".json"), b.schema(i), 0o600); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(12)
	if err != nil {
		return nil, err
	}
	g := &agentGroup{b: b}
	for i := range g.members {
		name, p, broker := fmt.Sprintf("server%d", i), ports[3*i:], "none"
		if mqtt {
			broker = "127.0.0.1:" + ports[9+i]
		}
		a := &agent{bench: b, name: kind + "-" + name, mqtt: broker, services: services, local: "127.0.0.1:" + p[0], admin: "127.0.0.1:" + p[1], env: []string{
			"CONFIG_NODE_ID=" + name, "CONFIG_DATA_DIR=" + filepath.Join(b.dir, kind+"-"+name),
			"CONFIG_LOCAL_ADDR=127.0.0.1:" + p[0], "CONFIG_MANAGER_HOST=127.0.0.1", "CONFIG_MANAGER_PORT=" + p[1],
			"CONFIG_UI_ADDR=none", "CONFIG_CLUSTER_ADDR=127.0.0.1:" + p[2], "CONFIG_ADVERTISE_ADDR=127.0.0.1:" + p[2], "CONFIG_MQTT_ADDR=" + broker,
			"CONFIG_MANAGER_LOG_LEVEL=WARNING", "CONFIG_VERIFY_EVERY=0s",
		}}
		g.members[i] = a
		if i == 0 {
			a.env = append(a.env, "CONFIG_SCHEMA_DIR="+schemas, "CONFIG_API_TOKENS="+token+":config.write")
		} else {
			t, err := request("POST", "http://"+g.members[0].admin+"/api/config/cluster/tokens", `{"role":"server"}`, "X-API-Token", token, "Content-Type", "application/json")
			var made struct {
				Token string `json:"token"`
			}
			if err != nil || t.Status != http.StatusOK || json.Unmarshal(t.Body, &made) != nil {
				return nil, fmt.Errorf("no join token: %w, %d %s", err, t.Status, t.Body)
			}
			a.env = append(a.env, "CONFIG_JOIN=127.0.0.1:"+ports[2], "CONFIG_JOIN_TOKEN="+made.Token)
		}
		if err := a.start(); err != nil {
			return nil, err
		}
		if err := a.settle(); err != nil {
			return nil, err
		}
	}
	err = g.members[0].await("three voters", time.Minute, func() bool { s, err := g.status(0); return err == nil && s.Voters == 3 })
	if err != nil {
		return nil, err
	}
	for key := range services { // each service has a document
		w := g.writer(0, key)
		err := w.write(b.ctx, 1)
		w.close()
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *agentGroup) name() string { return "agents" }

func (g *agentGroup) pid(i int) int { return g.members[i].cmd.Process.Pid }

func (g *agentGroup) start(i int) error { return g.members[i].start() }

func (g *agentGroup) kill(i int) { g.members[i].kill() }

// ready: it answers reads, and takes part again.
func (g *agentGroup) ready(i int) bool {
	r, err := request("GET", "http://"+g.members[i].admin+"/api/config/cluster", "", "X-API-Token", token)
	return err == nil && r.Status == http.StatusOK && bytes.Contains(r.Body, []byte(`"quorum":true`))
}

type clusterStatus struct {
	Leader string `json:"leader"`
	Voters int    `json:"voters"`
}

func (g *agentGroup) status(i int) (s clusterStatus, err error) {
	r, err := request("GET", "http://"+g.members[i].admin+"/api/config/cluster", "", "X-API-Token", token)
	if err == nil {
		err = json.Unmarshal(r.Body, &s)
	}
	return s, err
}

func (g *agentGroup) leader() (int, error) {
	for i := range g.members {
		if s, err := g.status(i); err == nil && s.Leader != "" {
			return strconv.Atoi(strings.TrimPrefix(s.Leader, "server"))
		}
	}
	return 0, fmt.Errorf("no agent knows a leader")
}

func (g *agentGroup) transfer(ctx context.Context, _, to int) error {
	r, err := request("POST", "http://"+g.members[to].admin+"/api/config/cluster/transfer", fmt.Sprintf(`{"node":"server%d"}`, to),
		"X-API-Token", token, "Content-Type", "application/json")
	if err == nil && r.Status != http.StatusOK {
		err = fmt.Errorf("transfer: %d %s", r.Status, r.Body)
	}
	return err
}

// writer makes merge patches of all keys of a service, on a connection of its own.
func (g *agentGroup) writer(member, key int) writer {
	c := &http.Client{Transport: &http.Transport{}}
	url := "http://" + g.members[member].admin + "/api/config/services/" + service(key)
	var doc bytes.Buffer
	for k := 1; k < g.b.keys; k++ {
		fmt.Fprintf(&doc, `,"key_%02d":%d`, k, 100_000_000+k)
	}
	return writer{close: c.CloseIdleConnections, write: func(ctx context.Context, n int) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPatch, url, strings.NewReader(fmt.Sprintf(`{"key_00":%d%s}`, n, doc.Bytes())))
		if err != nil {
			return err
		}
		req.Header.Set("X-API-Token", token)
		req.Header.Set("Content-Type", "application/merge-patch+json")
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return err
	}}
}

func (g *agentGroup) watch(ctx context.Context, member, key int, seen func(n int)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.members[member].local+"/v1/watch/"+service(key), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if n, ok := marked(lines.Bytes()); ok {
			seen(n)
		}
	}
	return lines.Err()
}
