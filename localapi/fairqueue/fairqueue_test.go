package fairqueue

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// A flow in a tight loop never has all of the agent: another one runs at once, and
// queued requests run flow by flow.
func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Limits{4, 3, 8, time.Minute})
		var greedy []func()
		for range 3 {
			leave, err := q.Acquire(t.Context(), KeyOf("greedy"))
			if err != nil {
				t.Fatal(err)
			}
			greedy = append(greedy, leave)
		}
		var mu sync.Mutex
		var order []string
		line := func(name string) {
			go func() {
				leave, err := q.Acquire(t.Context(), KeyOf(name))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				leave()
			}()
			synctest.Wait()
		}
		for range 5 {
			line("greedy")
		}
		if len(order) != 0 {
			t.Fatalf("one source has more than its share: %v", order)
		}
		other, err := q.Acquire(t.Context(), KeyOf("other"))
		if err != nil {
			t.Fatal(err)
		}
		line("second")
		line("third")
		if len(order) != 0 {
			t.Fatalf("more than all: %v", order)
		}
		greedy[0]()
		synctest.Wait()
		if got := order[:3]; len(order) != 7 || got[0] != "greedy" || got[1] != "second" || got[2] != "third" {
			t.Fatalf("the others wait behind all of the one who came first: %v", order)
		}
		greedy[1]()
		greedy[2]()
		other()
		if len(q.flows) != 0 || len(q.waiting) != 0 || q.running != 0 {
			t.Fatalf("left over: %d sources, %d waiting, %d running", len(q.flows), len(q.waiting), q.running)
		}
	})
}

func TestQueueRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(Limits{2, 1, 2, time.Second})
		leave, err := q.Acquire(t.Context(), KeyOf("a"))
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 3)
		gone, cancel := context.WithCancel(t.Context())
		go func() { _, err := q.Acquire(gone, KeyOf("a")); errs <- err }()
		go func() { _, err := q.Acquire(t.Context(), KeyOf("a")); errs <- err }()
		synctest.Wait()
		refused := func(err error) {
			t.Helper()
			if conf.CodeOf(err) != conf.CodeRateLimited || conf.HintOf(err) == "" {
				t.Fatalf("not refused: %v", err)
			}
		}
		_, err = q.Acquire(t.Context(), KeyOf("a"))
		refused(err) // the line is full
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) { // who is gone waits no longer, and is not told
			t.Fatalf("gone: %v", err)
		}
		start := time.Now()
		refused(<-errs)
		if d := time.Since(start); d != time.Second {
			t.Fatalf("waited %v", d)
		}
		leave()
		if len(q.flows) != 0 || len(q.waiting) != 0 || q.running != 0 || q.Rejected() != 2 {
			t.Fatalf("left over: %+v", q)
		}
	})
}

// Under concurrent load no slot is lost, and none is made up.
func TestQueueUnderLoad(t *testing.T) {
	q := New(Limits{8, 5, 1000, 2 * time.Millisecond})
	var inside, most, done atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%7)*time.Millisecond/4)
				leave, err := q.Acquire(ctx, KeyOf(string(rune('a'+i%3))))
				if err == nil {
					if now := inside.Add(1); now > most.Load() {
						most.Store(now)
					}
					done.Add(1)
					inside.Add(-1)
					leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d had a turn", done.Load(), 64*200)
	if most.Load() > 8 || done.Load() < 1000 || len(q.flows) != 0 || len(q.waiting) != 0 || q.running != 0 {
		t.Fatalf("%d at a time, %d done; left: %d sources, %d lines, %d running", most.Load(), done.Load(), len(q.flows), len(q.waiting), q.running)
	}
}
