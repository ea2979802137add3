package raftguard

import (
	"fmt"
	"net"
	"testing"

	"github.com/holdfast-config/holdfast/testenv/base"
)

func TestConnectionRefused(t *testing.T) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base.FreePorts(t, 1)[0])) // nobody else takes it afterwards
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if ConnectionRefused(addr) {
		t.Error("refused by a listener")
	}
	l.Close()
	eventually(t, "a refusal without a listener", func() bool { return ConnectionRefused(addr) }) // within a time limit
	for _, odd := range []string{"", "n1", "127.0.0.1", "nowhere.invalid:1"} {
		if ConnectionRefused(odd) {
			t.Errorf("%q refused", odd)
		}
	}
}
