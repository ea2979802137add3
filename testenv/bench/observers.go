package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

const (
	observerIdle    = 20 * time.Second
	observerUpdates = 10
)

// observers measures many observers of one service, as processes, at the embedded
// broker of one agent: memory and idle processor of each, and what an update costs
// that all of them get, and one that none of them asked for.
func (b *bench) observers() error {
	a, err := b.newAgent("observed", 10)
	if err != nil {
		return err
	}
	defer a.kill()
	ports, err := freePorts(1 + b.options.observers)
	if err != nil {
		return err
	}
	if err := a.stop(); err != nil {
		return err
	}
	broker := "127.0.0.1:" + ports[0]
	a.env = append(a.env, "CONFIG_MQTT_ADDR="+broker)
	if err := a.start(); err != nil {
		return err
	}
	if err := a.settle(); err != nil {
		return err
	}
	keys, err := request("GET", "http://"+a.local+"/v1/keys", "")
	if err != nil {
		return err
	}
	trust := filepath.Join(b.dir, "observed-keys.json")
	if err := os.WriteFile(trust, keys.Body, 0o600); err != nil {
		return err
	}
	all := make([]*agent, b.options.observers)
	for i := range all {
		o := &agent{bench: b, name: fmt.Sprintf("observer-%03d", i), local: "127.0.0.1:" + ports[1+i], services: 1}
		if o.child, err = b.spawn("observers.log", []string{"CONFIG_MANAGER_LOG_LEVEL=WARNING"}, b.agent, "agent", "--role", "observer",
			"--mqtt", "mqtt://"+broker, "--trust", trust, "--service", service(0), "--data-dir", filepath.Join(b.dir, o.name),
			"--local-addr", o.local, "--local-socket", "none"); err != nil {
			return err
		}
		defer o.kill()
		all[i] = o
	}
	for _, o := range all {
		if err := o.await("the observer to serve", 2*time.Minute, func() bool {
			r, err := o.get(service(0), "")
			return err == nil && r.Status == http.StatusOK
		}); err != nil {
			return err
		}
	}
	n := float64(len(all))
	used := func() (seconds float64, err error) {
		for _, o := range all {
			one, err := o.cpu()
			if err != nil {
				return 0, err
			}
			seconds += one
		}
		return seconds, nil
	}
	// Idle: nobody asks, nothing changes.
	if err := a.settle(); err != nil {
		return err
	}
	client.CloseIdleConnections()
	before, err := used()
	if err != nil {
		return err
	}
	if err := b.pause(observerIdle); err != nil {
		return err
	}
	after, err := used()
	if err != nil {
		return err
	}
	idle := (after - before) / n / observerIdle.Seconds() * 100
	var private []float64
	for _, o := range all {
		mb, err := privateOf(o.cmd.Process.Pid)
		if err != nil {
			return err
		}
		private = append(private, mb)
	}
	rssMB, err := rssOf(all[0].cmd.Process.Pid)
	if err != nil {
		return err
	}
	reported := func(what, value string) {
		b.add(row{what: what, ours: value, other: "-", ratio: "-", target: "reported"})
	}
	reported(fmt.Sprintf("observer, one of %d: memory of its own, MB", len(all)), fmt.Sprintf("%.1f (RSS %.0f)", median(private), rssMB))
	reported("observer, idle processor", fmt.Sprintf("%.3f %%", idle))

	theirs, last, err := b.observerUpdates(a, all, service(0), used, (after-before)/observerIdle.Seconds())
	if err != nil {
		return err
	}
	others, _, err := b.observerUpdates(a, all, service(1), used, (after-before)/observerIdle.Seconds())
	if err != nil {
		return err
	}
	reported(fmt.Sprintf("one update to all %d, until the last serves it (median)", len(all)), last.Round(time.Millisecond).String())
	reported("one update, processor of each observer", fmt.Sprintf("%.2f ms", theirs/n*1000))
	reported("an update of another service, processor of each observer", fmt.Sprintf("%.2f ms", others/n*1000))
	return nil
}

// observerUpdates changes a service some times. Each observer has a long poll for its
// own service; a change of another one answers none of them. It returns the
// processor time of all observers a change, idle time taken off, and how long it took.
func (b *bench) observerUpdates(a *agent, all []*agent, name string, used func() (float64, error), idle float64) (seconds float64, last time.Duration, err error) {
	own := name == service(0)
	var took []time.Duration
	var sum float64
	for u := range observerUpdates {
		tags := make([]string, len(all))
		for i, o := range all {
			r, err := o.get(service(0), "")
			if err != nil {
				return 0, 0, err
			}
			tags[i] = r.Header.Get("Etag")
		}
		var polls sync.WaitGroup
		begun := make(chan struct{}, len(all))
		if own {
			for i, o := range all {
				polls.Go(func() {
					begun <- struct{}{}
					_, _ = request("GET", "http://"+o.local+"/v1/config/"+name+"?wait=60s", "", "If-None-Match", tags[i])
				})
			}
			for range all {
				<-begun
			}
		}
		if err := b.pause(time.Second); err != nil { // all of them wait
			return 0, 0, err
		}
		before, err := used()
		if err != nil {
			return 0, 0, err
		}
		body, _ := json.Marshal(map[string]int{"key_00": 2000 + u})
		start := time.Now()
		r, err := request("PATCH", "http://"+a.admin+"/api/config/services/"+name, string(body), "X-API-Token", token)
		if err != nil || r.Status != http.StatusOK {
			return 0, 0, fmt.Errorf("the change: %d %s: %w", r.Status, r.Body, err)
		}
		polls.Wait()
		took = append(took, time.Since(start))
		if err := b.pause(500 * time.Millisecond); err != nil { // for what follows the answer
			return 0, 0, err
		}
		after, err := used()
		if err != nil {
			return 0, 0, err
		}
		sum += max(0, after-before-idle*time.Since(start).Seconds())
	}
	return sum / observerUpdates, median(took), nil
}

func (b *bench) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

var private = regexp.MustCompile(`(?m)^Private_(?:Clean|Dirty):\s+(\d+) kB`)

// privateOf is the memory that a process shares with nobody, in MB.
func privateOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	kb := 0
	for _, m := range private.FindAllSubmatch(text, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			return 0, err
		}
		kb += n
	}
	return float64(kb) / 1024, nil
}
