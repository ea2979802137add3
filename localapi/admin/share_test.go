package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// PatientShare is NewShare for a test whose callers wait for as long as it takes.
func PatientShare() *Share { return newShare(maxRunning, maxRunningFrom, maxInLine, time.Hour) }

func from(name string) [sha256.Size]byte { return sha256.Sum256([]byte(name)) }

// One source in a tight loop never has all of the agent: another one goes on at once,
// and those that wait have their turn source by source.
func TestShareIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(4, 3, 8, time.Minute)
		var greedy []func()
		for range 3 {
			leave, err := s.enter(t.Context(), from("greedy"))
			if err != nil {
				t.Fatal(err)
			}
			greedy = append(greedy, leave)
		}
		var mu sync.Mutex
		var order []string
		line := func(name string) {
			go func() {
				leave, err := s.enter(t.Context(), from(name))
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
		other, err := s.enter(t.Context(), from("other"))
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
		if len(s.lanes) != 0 || len(s.turn) != 0 || s.running != 0 {
			t.Fatalf("left over: %d sources, %d waiting, %d running", len(s.lanes), len(s.turn), s.running)
		}
	})
}

func TestShareRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(2, 1, 2, time.Second)
		leave, err := s.enter(t.Context(), from("a"))
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 3)
		gone, cancel := context.WithCancel(t.Context())
		go func() { _, err := s.enter(gone, from("a")); errs <- err }()
		go func() { _, err := s.enter(t.Context(), from("a")); errs <- err }()
		synctest.Wait()
		refused := func(err error) {
			t.Helper()
			e, ok := errors.AsType[*edgeError](err)
			if !ok || conf.CodeOf(err) != conf.CodeRateLimited || e.header.Get("Retry-After") == "" {
				t.Fatalf("not refused: %v", err)
			}
		}
		_, err = s.enter(t.Context(), from("a"))
		refused(err) // the line is full
		cancel()
		refused(<-errs) // who is gone waits no longer
		start := time.Now()
		refused(<-errs)
		if d := time.Since(start); d != time.Second {
			t.Fatalf("waited %v", d)
		}
		leave()
		if len(s.lanes) != 0 || len(s.turn) != 0 || s.running != 0 || s.Refused().Requests != 3 {
			t.Fatalf("left over: %+v", s)
		}
	})
}

// Whatever comes and goes at once, no turn is lost and none is made up.
func TestShareUnderLoad(t *testing.T) {
	s := newShare(8, 5, 1000, 2*time.Millisecond)
	var inside, most, done atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%7)*time.Millisecond/4)
				leave, err := s.enter(ctx, from(string(rune('a'+i%3))))
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
	if most.Load() > 8 || done.Load() < 1000 || len(s.lanes) != 0 || len(s.turn) != 0 || s.running != 0 {
		t.Fatalf("%d at a time, %d done; left: %d sources, %d lines, %d running", most.Load(), done.Load(), len(s.lanes), len(s.turn), s.running)
	}
}
