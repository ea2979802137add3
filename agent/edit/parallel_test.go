package edit

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

func TestParallel(t *testing.T) {
	for _, n := range []int{0, 1, 2, 500} {
		var calls atomic.Int64
		if err := parallel(n, func(int) error { calls.Add(1); return nil }); err != nil || calls.Load() != int64(n) {
			t.Errorf("%d: %d calls (%v)", n, calls.Load(), err)
		}
	}
	// The error is the same, whatever runs first.
	for range 100 {
		err := parallel(100, func(i int) error {
			if i >= 37 {
				return fmt.Errorf("at %d", i)
			}
			return nil
		})
		if err == nil || err.Error() != "at 37" {
			t.Fatalf("got %v", err)
		}
	}
	if err := parallel(3, func(i int) error { return errors.New(strings.Repeat("x", i+1)) }); err.Error() != "x" {
		t.Error(err)
	}
}
