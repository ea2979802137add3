package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	agent     string
	parts     string
	rounds    int
	slice     time.Duration
	services  int
	keys      int
	starts    int
	writes    int
	cluster   string
	observers int
	short     bool
}

// shorten makes a run of about three minutes, where the flags do not say otherwise.
func (o *options) shorten() {
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	set := func(name string, do func()) {
		if !given[name] {
			do()
		}
	}
	set("parts", func() { o.parts = "doc,304,cold,size,write,cluster" })
	set("rounds", func() { o.rounds = 3 })
	set("slice", func() { o.slice = time.Second })
	set("services", func() { o.services = 300 })
	set("starts", func() { o.starts = 7 })
	set("writes", func() { o.writes = 200 })
	set("cluster", func() { o.cluster = "writes,seen" })
}

func main() {
	var o options
	bare := flag.String("bare", "", "be the bare server on this address (used by the program itself)")
	spec := flag.String("spec", "", "file with what the bare server answers")
	flag.StringVar(&o.agent, "agent", "bin/holdfast", "the binary to measure")
	flag.StringVar(&o.parts, "parts", "doc,304,cold,scale,write,size,cluster,mqtt,observers,rotation,secrets,backup", "what to measure")
	flag.IntVar(&o.rounds, "rounds", 5, "turns that each side takes")
	flag.DurationVar(&o.slice, "slice", 3*time.Second, "length of a turn")
	flag.IntVar(&o.services, "services", 10_000, "services of the large agent")
	flag.IntVar(&o.keys, "keys", 50, "keys of a service")
	flag.IntVar(&o.starts, "starts", 20, "cold starts of each side")
	flag.IntVar(&o.writes, "writes", 1500, "writes to each agent")
	flag.StringVar(&o.cluster, "cluster", "writes,seen,idle,transfers,kills", "what to measure of the part cluster")
	flag.IntVar(&o.observers, "observers", 500, "observers of one service, as processes")
	flag.BoolVar(&o.short, "short", false, "three minutes: fewer parts, shorter turns")
	flag.IntVar(&nextPort, "ports", 0, "first of the ports to use; 0 takes free ones")
	flag.Parse()
	if o.short {
		o.shorten()
	}
	if *bare != "" {
		if err := serveBare(*bare, *spec); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil { // said, but never a failed build
		fmt.Fprintln(os.Stderr, "bench: stopped early:", err)
	}
}

func run(ctx context.Context, o options) error {
	if _, err := os.Stat(o.agent); err != nil {
		return fmt.Errorf("%w (make build makes it)", err)
	}
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, ctx: ctx, dir: dir, began: time.Now()}
	defer b.stopAll()
	defer func() { b.print(os.Stdout) }() // what was measured before an error, too
	fmt.Println(b.machine())

	parts := strings.Split(o.parts, ",")
	for _, p := range []struct {
		name string
		run  func() error
	}{
		{"doc", func() error { return b.reads(false) }},
		{"304", func() error { return b.reads(true) }},
		{"cold", b.coldStart},
		{"size", b.sizes},
		{"scale", b.scale},
		{"write", b.writeCost},
		{"cluster", b.cluster},
		{"mqtt", b.mqtt},
		{"observers", b.observers},
		{"rotation", b.rotation},
		{"secrets", b.secrets},
		{"backup", b.backup},
	} {
		if !slices.Contains(parts, p.name) {
			continue
		}
		start := time.Now()
		if err := p.run(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, time.Since(start).Round(time.Second))
	}
	return nil
}

// bench is one run.
type bench struct {
	options
	ctx      context.Context
	dir      string
	began    time.Time
	rows     []row
	children []*child
	small    *agent // the agent with 10 services
	front    *agent // as small, on the processors that the load leaves
	plain    *agent // the same without a front
	large    *agent // the one with many
}

// row is one line of the table.
type row struct{ what, ours, other, ratio, target string }

func (b *bench) add(r row) { b.rows = append(b.rows, r) }

// judge writes a ratio beside its target: at least when atLeast, else at most.
func judge(ratio, target float64, atLeast bool) (text, goal string) {
	sign, met := "<=", ratio <= target
	if atLeast {
		sign, met = ">=", ratio >= target
	}
	mark := "met"
	if !met {
		mark = "NOT met"
	}
	return fmt.Sprintf("%.2f", ratio), fmt.Sprintf("%s %.2f  %s", sign, target, mark)
}

// print writes the table in Markdown, its columns aligned for those who read it as it is.
func (b *bench) print(w *os.File) {
	head := row{"what", "agent", "beside", "ratio", "target"}
	cells := func(r row) []string { return []string{r.what, r.ours, r.other, r.ratio, r.target} }
	width := make([]int, 5)
	for _, r := range append([]row{head}, b.rows...) {
		for i, c := range cells(r) {
			width[i] = max(width[i], len(c))
		}
	}
	line := func(r row) {
		for i, c := range cells(r) {
			if i == 0 || i == 4 {
				fmt.Fprintf(w, "| %-*s ", width[i], c)
			} else {
				fmt.Fprintf(w, "| %*s ", width[i], c)
			}
		}
		fmt.Fprintln(w, "|")
	}
	line(head)
	for i, n := range width {
		if i == 0 || i == 4 {
			fmt.Fprint(w, "|-", strings.Repeat("-", n), "-")
		} else {
			fmt.Fprint(w, "|-", strings.Repeat("-", n), ":")
		}
	}
	fmt.Fprintln(w, "|")
	for _, r := range b.rows {
		line(r)
	}
	fmt.Fprintf(w, "\nMeasured in %v.\n", time.Since(b.began).Round(time.Second))
}

func median[T int | float64 | time.Duration](s []T) T {
	s = slices.Sorted(slices.Values(s))
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}

// quantile sorts s.
func quantile(s []time.Duration, q float64) time.Duration {
	slices.Sort(s)
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, int(q*float64(len(s))))]
}
