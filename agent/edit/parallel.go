package edit

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel calls f for each i below n, on all processors, and returns the error of the
// lowest i. What is behind an error may be left out.
func parallel(n int, f func(i int) error) error {
	var next, failed atomic.Int64
	failed.Store(int64(n))
	errs := make([]error, n)
	work := func() {
		for i := next.Add(1) - 1; i < failed.Load(); i = next.Add(1) - 1 {
			if errs[i] = f(int(i)); errs[i] == nil {
				continue
			}
			for was := failed.Load(); i < was && !failed.CompareAndSwap(was, i); was = failed.Load() {
			}
		}
	}
	var others sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	if i := failed.Load(); i < int64(n) {
		return errs[i]
	}
	return nil
}
