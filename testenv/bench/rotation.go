package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

const (
	rotationServices = 10
	rotationSecrets  = 100 // of each service
	rotationWriters  = 4
	rotationRounds   = 3
)

// rotation measures what writers feel of a rotation of the master key with 1,000
// secrets in three servers: the time of a write before and while it runs, from the
// request until the last secret is sealed again.
func (b *bench) rotation() error {
	g, err := startAgents(b, rotationWriters, false)
	if err != nil {
		return err
	}
	defer func() {
		for i := range g.members {
			g.kill(i)
		}
	}()
	at, err := g.leader()
	if err != nil {
		return err
	}
	admin := "http://" + g.members[at].admin + "/api/config/"
	call := func(method, path, body string, out any) error {
		r, err := request(method, admin+path, body, "X-API-Token", token, "Content-Type", "application/json")
		if err == nil && r.Status != http.StatusOK {
			err = fmt.Errorf("%s %s: %d %s", method, path, r.Status, r.Body)
		}
		if err == nil && out != nil {
			err = json.Unmarshal(r.Body, out)
		}
		return err
	}
	for i := range rotationServices {
		props, doc := map[string]any{}, map[string]string{}
		for k := range rotationSecrets {
			name := fmt.Sprintf("secret_%03d", k)
			props[name] = map[string]any{"type": "string", "x-secret": true, "x-secret-source": "database"}
			doc[name] = fmt.Sprintf("the value of %s in service %d", name, i)
		}
		name := fmt.Sprintf("sealed-%d", i)
		schema, err := json.Marshal(map[string]any{"type": "object", "properties": props})
		if err != nil {
			return err
		}
		values, err := json.Marshal(map[string]any{"service": name, "config": doc, "version": 1})
		if err != nil {
			return err
		}
		if err := call("PUT", "schemas/"+name, string(schema), nil); err != nil {
			return err
		}
		if err := call("PUT", "services/"+name, string(values), nil); err != nil {
			return err
		}
	}
	var before, during, lasted []time.Duration
	for range rotationRounds {
		quiet, err := b.writesWhile(g, at, func() error { return b.pause(3 * time.Second) })
		if err != nil {
			return err
		}
		before = append(before, quiet...)
		busy, err := b.writesWhile(g, at, func() error {
			start := time.Now()
			var r conf.KeyRotation
			if err := call("POST", "keys/master/rotate", "", &r); err != nil {
				return err
			}
			var st conf.KeysStatus
			err := g.members[at].await("the secrets under the new key", time.Minute, func() bool {
				if call("GET", "keys", "", &st) != nil {
					return false
				}
				for _, k := range st.Keys {
					if k.Kind == conf.KeyMaster && k.ID == r.KeyID {
						return k.State == conf.KeyActive && k.Secrets == rotationServices*rotationSecrets
					}
				}
				return false
			})
			lasted = append(lasted, time.Since(start))
			return err
		})
		if err != nil {
			return err
		}
		during = append(during, busy...)
		if err := call("POST", "keys/master/retire", "", nil); err != nil {
			return err
		}
	}
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		d, w := quantile(during, q.at), quantile(before, q.at)
		r, t := judge(float64(d)/float64(w), 2, false)
		b.add(row{fmt.Sprintf("a write during a rotation of %d secrets, beside before: %s", rotationServices*rotationSecrets, q.name), ms(d), ms(w), r, t})
	}
	b.add(row{what: fmt.Sprintf("that rotation, from the command to its end (%d writes during %d)", len(during), rotationRounds), ours: ms(median(lasted))})
	return nil
}

// writesWhile has clients write, each to its own service, while f runs.
func (b *bench) writesWhile(g *agentGroup, at int, f func() error) ([]time.Duration, error) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var wg sync.WaitGroup
	for k := range rotationWriters {
		w := g.writer(at, k)
		wg.Go(func() {
			defer w.close()
			for n := 1; ctx.Err() == nil; n++ {
				start := time.Now()
				err := w.write(b.ctx, int(start.UnixMicro()%1_000_000)+n)
				mu.Lock()
				took = append(took, time.Since(start))
				if err != nil && failed == nil {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	err := f()
	cancel()
	wg.Wait()
	if err == nil {
		err = failed
	}
	return took, err
}
