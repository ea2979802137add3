package raftguard

import (
	"fmt"
	"testing"
)

func TestFaultIsToldOnce(t *testing.T) {
	f := NewFault()
	if f.Err() != nil {
		t.Fatal("a fault before one")
	}
	for i := range 3 {
		f.Trip(fmt.Errorf("fault %d", i))
	}
	if err := <-f.C(); err == nil || err.Error() != "fault 0" {
		t.Fatalf("told %v", err)
	}
	if err, open := <-f.C(); err != nil || open {
		t.Fatal("told twice")
	}
}
