package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

const few = 10 // services of the small agent

func (b *bench) smallAgent() (_ *agent, err error) {
	if b.small == nil {
		b.small, err = b.newAgent("small", few)
	}
	return b.small, err
}

func (b *bench) largeAgent() (*agent, error) {
	if b.large != nil {
		return b.large, nil
	}
	start := time.Now()
	a, err := b.newAgent("large", b.services)
	if err != nil {
		return nil, err
	}
	b.large = a
	b.add(row{what: fmt.Sprintf("load %d services of %d keys into an empty agent", b.services, b.keys), ours: time.Since(start).Round(100 * time.Millisecond).String()})
	used, err := a.cpu()
	if err != nil {
		return nil, err
	}
	b.add(row{what: "processor for that, with the search index", ours: fmt.Sprintf("%.1f s", used)})
	mb, _, err := b.settledMemory(a.pid())
	if err != nil {
		return nil, err
	}
	b.add(aim(fmt.Sprintf("memory with %d services at rest (RSS)", b.services), mb, 400))
	if mb, err = memoryOf(a.pid(), "VmHWM"); err != nil {
		return nil, err
	}
	b.add(aim(fmt.Sprintf("memory with %d services at most (RSS)", b.services), mb, 700))
	return a, nil
}

// reads compares GET of one document, or a 304 of it: the agent with its front and without,
// a bare net/http server and nginx.
func (b *bench) reads(conditional bool) error {
	a, err := b.reader(&b.front, "front", "on")
	if err != nil {
		return err
	}
	off, err := b.reader(&b.plain, "plain", "off")
	if err != nil {
		return err
	}
	bare, addr, ans, err := b.bareOf(a, service(1))
	if err != nil {
		return err
	}
	defer bare.kill()
	path := "/v1/config/" + service(1)
	what, etag, offTag := fmt.Sprintf("GET, %d B", len(ans.Body)), "", ""
	if conditional {
		r, err := off.get(service(1), "")
		if err != nil {
			return err
		}
		what, etag, offTag = "GET, 304", ans.ETag, r.Header.Get("ETag")
	}
	sides := []target{
		get("front", a.local, path, etag).of(a.pid()), get("net/http", off.local, path, offTag).of(off.pid()), get("bare", addr, path, etag).of(bare.pid()),
	}
	nginx, err := b.nginx(ans, path)
	if err != nil {
		return err
	}
	if nginx != nil {
		defer nginx.kill()
		if conditional {
			etag = nginx.etag
		}
		sides = append(sides, get("nginx", nginx.addr, path, etag).of(nginx.pids()...))
	}
	for _, conns := range []int{1, 16, 64} {
		got, err := b.duel(sides, conns)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s, %d conn", what, conns)
		front, plain, bare := got[0], got[1], got[2]
		least := map[bool]float64{true: 1, false: 1.5}[conns == 1]
		b.compare(what+": front beside bare net/http", front, bare, least)
		b.compare(what+": without the front beside bare net/http", plain, bare, 0.95)
		if len(got) > 3 {
			least = map[bool]float64{true: 1, false: 1.25}[conns == 1]
			b.compare(what+": front beside nginx", front, got[3], least)
		}
	}
	return nil
}

// reader returns an agent that reads are measured at, on the processors that the load leaves.
func (b *bench) reader(a **agent, name, front string) (_ *agent, err error) {
	if *a != nil {
		return *a, nil
	}
	if *a, err = b.makeAgent(name, few, "CONFIG_LOCAL_FRONT="+front); err != nil {
		return nil, err
	}
	(*a).cpus = servers()
	if err := (*a).start(); err != nil {
		return nil, err
	}
	return *a, (*a).settle()
}

// compare adds the lines of a read: throughput, and what a request costs the server.
func (b *bench) compare(what string, ours, other series, least float64) {
	r, t := judge(ratio(ours, other, rate), least, true)
	b.add(row{what + ": requests/s", fmt.Sprintf("%.0f", median(ours.each(rate))), fmt.Sprintf("%.0f", median(other.each(rate))), r, t})
	if c := ratio(ours, other, cost); c > 0 {
		b.add(row{what + ": processor a request", fmt.Sprintf("%.1f us", median(ours.each(cost))), fmt.Sprintf("%.1f us", median(other.each(cost))), fmt.Sprintf("%.2f", c), ""})
	}
	r, t = judge(ratio(ours, other, tail), 1.1, false)
	b.add(row{what + ": p99", us(time.Duration(median(ours.each(tail)))), us(time.Duration(median(other.each(tail)))), r, t})
}

func us(d time.Duration) string { return fmt.Sprintf("%.0f us", float64(d)/1e3) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

// scale asks whether reads cost more with many services.
func (b *bench) scale() error {
	small, err := b.smallAgent()
	if err != nil {
		return err
	}
	large, err := b.largeAgent()
	if err != nil {
		return err
	}
	bare, addr, _, err := b.bareOf(large, service(b.services/2))
	if err != nil {
		return err
	}
	defer bare.kill()
	for _, conns := range []int{1, 64} {
		path := "/v1/config/" + service(b.services/2)
		got, err := b.duel([]target{
			get("large", large.local, path, "").of(large.pid()), get("bare", addr, path, "").of(bare.pid()),
			get("small", small.local, "/v1/config/"+service(few/2), "").of(small.pid()),
		}, conns)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("GET with %d services, %d conn", b.services, conns)
		b.compare(what+", beside bare net/http", got[0], got[1], 1)
		b.add(row{
			what + ": requests/s, beside 10 services", fmt.Sprintf("%.0f", median(got[0].each(rate))), fmt.Sprintf("%.0f", median(got[2].each(rate))),
			fmt.Sprintf("%.2f", ratio(got[0], got[2], rate)), "about 1",
		})
	}
	return nil
}

// writeTurns lets the sides take turns in writing, values from first on, and gives
// how long each side's writes took.
func (b *bench) writeTurns(first int, sides ...*agent) ([][]time.Duration, error) {
	took := make([][]time.Duration, len(sides))
	const group = 20
	for done := 0; done < b.writes; done += group {
		for i, a := range sides {
			for k := range group {
				n := done + k
				start := time.Now()
				r, err := request("PATCH", "http://"+a.admin+"/api/config/services/"+service(n%a.services), fmt.Sprintf(`{"key_01":%d}`, first+n), "X-API-Token", token)
				if err != nil {
					return nil, err
				}
				if r.Status != 200 {
					return nil, fmt.Errorf("a write was answered with %d %s; the agent printed:\n%s", r.Status, r.Body, a.tail())
				}
				took[i] = append(took[i], time.Since(start))
			}
		}
	}
	return took, nil
}

// writeCost asks whether a write costs more with many services.
func (b *bench) writeCost() error {
	small, err := b.smallAgent()
	if err != nil {
		return err
	}
	large, err := b.largeAgent()
	if err != nil {
		return err
	}
	took, err := b.writeTurns(10_000, large, small)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p90", 0.9}} {
		l, s := quantile(took[0], q.at), quantile(took[1], q.at)
		r, t := judge(float64(l)/float64(s), 1.5, false)
		b.add(row{fmt.Sprintf("a write with %d services beside 10: %s", b.services, q.name), ms(l), ms(s), r, t})
	}
	return nil
}

// coldStart measures exec to the first right answer: an agent with 100 services
// from its last-known-good file, and the bare server.
func (b *bench) coldStart() error {
	const services = 100
	a, err := b.newAgent("cold", services)
	if err != nil {
		return err
	}
	name := service(services / 2)
	if err := a.await("the first write", time.Minute, func() bool {
		r, err := request("PATCH", "http://"+a.admin+"/api/config/services/"+name, `{"key_00":424242}`, "X-API-Token", token)
		return err == nil && r.Status == 200
	}); err != nil {
		return err
	}
	bare, addr, ans, err := b.bareOf(a, name)
	if err != nil {
		return err
	}
	bare.kill()
	if err := a.stop(); err != nil {
		return err
	}
	if !bytes.Contains(ans.Body, []byte(`"key_00":424242`)) {
		return fmt.Errorf("the written value is not in %s", ans.Body)
	}
	ours, other := make([]time.Duration, 0, b.starts), make([]time.Duration, 0, b.starts)
	for range b.starts {
		start := time.Now()
		if err := a.start(); err != nil {
			return err
		}
		if err := b.firstAnswer(get("agent", a.local, "/v1/config/"+name, ""), ans.Body); err != nil {
			return err
		}
		ours = append(ours, time.Since(start))
		a.kill()

		start = time.Now()
		c, err := b.spawn("bare.log", nil, bare.cmd.Path, bare.cmd.Args[1:]...)
		if err != nil {
			return err
		}
		if err := b.firstAnswer(get("bare", addr, "/", ""), ans.Body); err != nil {
			return err
		}
		other = append(other, time.Since(start))
		c.kill()
	}
	r, t := judge(float64(median(ours))/float64(median(other)), 5, false)
	b.add(row{fmt.Sprintf("cold start, exec to first right answer, %d services", services), ms(median(ours)), ms(median(other)), r, t})
	return nil
}

// firstAnswer tries until the server answers, and wants the right bytes at once.
func (b *bench) firstAnswer(t target, want []byte) error {
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		c, err := dial(ctx, t.addr)
		if err == nil {
			body, err := c.answer(t)
			_ = c.Close()
			if err != nil {
				return err
			}
			if !bytes.Equal(body, want) {
				return fmt.Errorf("%s answers %s first, want %s", t.name, body, want)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

var memoryLine = regexp.MustCompile(`(?m)^(\w+):\s+(\d+) kB`)

// sizes reports the binary and the memory of an idle agent.
func (b *bench) sizes() error {
	info, err := os.Stat(b.options.agent)
	if err != nil {
		return err
	}
	b.add(aim("binary, stripped", float64(info.Size())/1e6, 40))
	a, err := b.newAgent("idle", few)
	if err != nil {
		return err
	}
	defer a.kill()
	mb, took, err := b.settledMemory(a.pid())
	if err != nil {
		return err
	}
	r := aim("memory of an idle agent, 10 services (RSS)", mb, 35)
	r.other = fmt.Sprintf("still after %.0f s", took.Seconds())
	b.add(r)
	return nil
}

// settledMemory waits until the memory of a process has not changed by a hundredth for ten
// seconds: what its start left behind is collected by then.
func (b *bench) settledMemory(pid int) (mb float64, took time.Duration, err error) {
	const still, patience = 10, 2 * time.Minute
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for same, last := 0, 0.0; same < still && time.Since(began) < patience; {
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return 0, 0, b.ctx.Err()
		}
		if mb, err = rssOf(pid); err != nil {
			return 0, 0, err
		}
		if mb > last*1.01 || mb < last*0.99 {
			same, last = 0, mb
		} else {
			same++
		}
	}
	return mb, time.Since(began), nil
}

// rssOf is the memory of a process in MB.
func rssOf(pid int) (float64, error) { return memoryOf(pid, "VmRSS") }

// memoryOf is a size that the kernel tells of a process, in MB.
func memoryOf(pid int, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for _, m := range memoryLine.FindAllSubmatch(text, -1) {
		if string(m[1]) == name {
			kb, err := strconv.ParseFloat(string(m[2]), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s for process %d", name, pid)
}

func aim(what string, mb, most float64) row {
	_, goal := judge(mb, most, false)
	return row{what: what, ours: fmt.Sprintf("%.1f MB", mb), target: goal}
}
