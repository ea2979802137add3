package base

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// NoLeaks runs the tests of a package, fails when one of their goroutines never
// ends, and gives TestMain the exit code. What goleak waits for by itself is over in
// half a second, which is not long for the last goroutines of a busy machine.
//
// A Raft that shuts down leaves what it has not looked at without an answer, such as
// a transfer of leadership that was asked for at that moment. Its futures know no
// context, so a goroutine that waits for one stays: that is not counted.
func NoLeaks(m *testing.M, ignore ...goleak.Option) int {
	ignore = append(ignore, goleak.IgnoreTopFunction("github.com/hashicorp/raft.(*deferError).Error"))
	code := m.Run()
	if code == 0 {
		var left error
		if !Poll(Patience/4, func() bool { left = goleak.Find(ignore...); return left == nil }) {
			fmt.Fprintf(os.Stderr, "goleak: errors on successful test run: %v\n", left)
			code = 1
		}
	}
	return code
}
