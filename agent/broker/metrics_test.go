package broker

import (
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What the brokers count is in the documentation by name.
func TestMQTTCountersAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc, 100)
	Metrics(nil, nil).Describe(ch)
	close(ch)
	n := 0
	for d := range ch {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		if n++; !strings.Contains(string(page), "| `"+name) {
			t.Errorf("docs/mqtt.md does not tell of %s", name)
		}
	}
	if n < 13 {
		t.Errorf("only %d metrics", n)
	}
}
