package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// etcdGroup is a cluster of three etcd with their default settings, spoken to
// over gRPC.
type etcdGroup struct {
	b       *bench
	members [3]*child
	args    [3][]string
	clients [3]string
	ids     [3]uint64
}

func startEtcd(b *bench) (*etcdGroup, error) {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return nil, nil // said by the caller
	}
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	g := &etcdGroup{b: b}
	var all []string
	for i := range g.members {
		all = append(all, fmt.Sprintf("e%d=http://127.0.0.1:%s", i, ports[3+i]))
	}
	for i := range g.members {
		g.clients[i] = "127.0.0.1:" + ports[i]
		client, peer := "http://"+g.clients[i], "http://127.0.0.1:"+ports[3+i]
		g.args[i] = []string{
			path, "--name", fmt.Sprintf("e%d", i), "--data-dir", filepath.Join(b.dir, fmt.Sprintf("etcd%d", i)),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
			"--initial-cluster", strings.Join(all, ","), "--initial-cluster-state", "new", "--logger", "zap", "--log-level", "error",
		}
		if err := g.start(i); err != nil {
			return nil, err
		}
	}
	for i := range g.members {
		if err := b.await("etcd to answer", 30*time.Second, func() bool {
			leader, self, err := g.status(i)
			g.ids[i] = self
			return err == nil && leader != 0
		}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *etcdGroup) name() string { return "etcd" }

func (g *etcdGroup) pid(i int) int { return g.members[i].cmd.Process.Pid }

func (g *etcdGroup) start(i int) (err error) {
	g.members[i], err = g.b.spawn(fmt.Sprintf("etcd%d.log", i), nil, g.args[i][0], g.args[i][1:]...)
	return err
}

func (g *etcdGroup) kill(i int) { g.members[i].kill() }

func (g *etcdGroup) ready(i int) bool {
	leader, _, err := g.status(i)
	return err == nil && leader != 0
}

// status asks a member who leads and who it is.
func (g *etcdGroup) status(i int) (leader, self uint64, err error) {
	ctx, cancel := context.WithTimeout(g.b.ctx, time.Second)
	defer cancel()
	c := dialGRPC(g.clients[i])
	defer c.close()
	m, err := c.call(ctx, "/etcdserverpb.Maintenance/Status", nil)
	if err != nil {
		return 0, 0, err
	}
	err = pbFields(m, func(field int, n uint64, data []byte) {
		switch field {
		case 1:
			_ = pbFields(data, func(field int, n uint64, _ []byte) {
				if field == 2 {
					self = n
				}
			})
		case 4:
			leader = n
		}
	})
	return leader, self, err
}

func (g *etcdGroup) leader() (int, error) {
	for i := range g.members {
		if leader, self, err := g.status(i); err == nil && leader == self {
			return i, nil
		}
	}
	return 0, fmt.Errorf("etcd has no leader")
}

func (g *etcdGroup) transfer(ctx context.Context, from, to int) error {
	c := dialGRPC(g.clients[from])
	defer c.close()
	_, err := c.call(ctx, "/etcdserverpb.Maintenance/MoveLeader", pbUint(nil, 1, g.ids[to]))
	return err
}

func (g *etcdGroup) writer(member, key int) writer {
	c := dialGRPC(g.clients[member])
	name := service(key)
	padding := bytes.Repeat([]byte("x"), documentSize)
	return writer{close: c.close, write: func(ctx context.Context, n int) error {
		value := fmt.Appendf(nil, "%d ", n)
		value = append(value, padding[len(value):]...)
		_, err := c.call(ctx, "/etcdserverpb.KV/Put", pbBytes(pbBytes(nil, 1, []byte(name)), 2, value))
		return err
	}}
}

func (g *etcdGroup) watch(ctx context.Context, member, key int, seen func(n int)) error {
	create := pbBytes(nil, 1, []byte(service(key)))
	return dialGRPC(g.clients[member]).stream(ctx, "/etcdserverpb.Watch/Watch", pbBytes(nil, 1, create), func(m []byte) bool {
		_ = pbFields(m, func(field int, _ uint64, event []byte) { // WatchResponse
			if field != 11 {
				return
			}
			_ = pbFields(event, func(field int, _ uint64, kv []byte) { // Event
				if field != 2 {
					return
				}
				_ = pbFields(kv, func(field int, _ uint64, value []byte) { // KeyValue
					if digits, _, ok := bytes.Cut(value, []byte(" ")); ok && field == 5 {
						if n, err := strconv.Atoi(string(digits)); err == nil {
							seen(n)
						}
					}
				})
			})
		})
		return true
	})
}
