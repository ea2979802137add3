package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
)

var benchWords = []string{"threshold", "timeout", "model", "voice", "retries", "path", "limit", "window", "buffer", "rate"}

// benchDoc is a document of 50 keys, about 1.2 KB.
func benchDoc(service, change int) string {
	var b strings.Builder
	b.WriteByte('{')
	for k := range 50 {
		if k > 0 {
			b.WriteByte(',')
		}
		v := service
		if k == 7 {
			v = change
		}
		fmt.Fprintf(&b, `"%s_%s_%02d":"value-%d"`, benchWords[k%10], benchWords[k/10], k, v)
	}
	b.WriteByte('}')
	return b.String()
}

func benchSchema() string {
	var b strings.Builder
	b.WriteByte('{')
	for k := range 50 {
		if k > 0 {
			b.WriteByte(',')
		}
		c := "simple"
		if k%3 == 0 {
			c = "advanced"
		}
		fmt.Fprintf(&b, `"%s_%s_%02d":{"c":"%s","d":"The %s of the %s of this service","h":"Raise it when the %s is too low"}`,
			benchWords[k%10], benchWords[k/10], k, c, benchWords[k%10], benchWords[k/10], benchWords[k%10])
	}
	b.WriteByte('}')
	return b.String()
}

func fill(tb testing.TB, d *driver, services int) {
	tb.Helper()
	schema := benchSchema()
	for i := 0; i < services; i += 100 {
		e := d.edit(command.ActionPut)
		for j := i; j < min(i+100, services); j++ {
			name := fmt.Sprintf("service-%05d", j)
			e.Updates = append(e.Updates, put(name, 0, benchDoc(j, 0)))
			e.Schemas = append(e.Schemas, schemaOf(name, schema))
		}
		d.ok(e)
	}
	if err := d.s.checkpoint(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkApply changes one key of one service. Its cost must not follow the
// number of services.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			s := openNew(b)
			d := newDriver(b, s)
			fill(b, d, n)
			versions := map[string]uint64{}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				svc := (i * 7919) % n
				i++
				name := fmt.Sprintf("service-%05d", svc)
				d.ok(d.edit(command.ActionPatch, put(name, 1+versions[name], benchDoc(svc, i))))
				versions[name]++
			}
		})
	}
}

// BenchmarkApplyBatch changes a key each of many services, in one batch. The
// commands are there: what is measured is Apply.
func BenchmarkApplyBatch(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			s := openNew(b)
			d := newDriver(b, s)
			fill(b, d, 64)
			if err := s.mergeSearchIndex(b.Context()); err != nil {
				b.Fatal(err)
			}
			// The one of the tests reads the schema each time; the real one does not.
			s.index.Project = func(service string, _, config json.RawMessage) ([]conf.Item, error) {
				return testProject(service, nil, config)
			}
			s.applier.Project = s.index.Project.Items
			version, i := uint64(1), 0
			var batch []apply.Entry
			b.ReportAllocs()
			for b.Loop() {
				if i%n == 0 {
					b.StopTimer()
					batch = batch[:0]
					for k := range n {
						service := (i + k) % 64
						e := d.edit(command.ActionPatch, put(fmt.Sprintf("service-%05d", service), version, benchDoc(service, i+1)))
						e.Audit = []conf.Access{{UserID: "ann", Action: "write", Service: e.Updates[0].Service, Success: true, Reason: e.Action, Timestamp: e.At}}
						batch = append(batch, d.entries(e)...)
						if service == 63 {
							version++
						}
					}
					b.StartTimer()
					if _, _, err := s.Apply(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				i++
			}
		})
	}
}

// BenchmarkSearch searches 100,000 items.
func BenchmarkSearch(b *testing.B) {
	s := openNew(b)
	fill(b, newDriver(b, s), 2000)
	advanced := conf.Advanced
	one := "service-01234"
	for name, req := range map[string]conf.SearchRequest{
		"rare":             {Query: "value-1234"},
		"common":           {Query: "service"},
		"common-in-text":   {Query: "the"},
		"key":              {Query: "threshold"},
		"two-words":        {Query: "threshold value-77"},
		"short":            {Query: "th"},
		"nothing":          {Query: "no such text anywhere"},
		"common-advanced":  {Query: "service", Complexity: &advanced},
		"common-service":   {Query: "the", Service: &one},
		"common-last-page": {Query: "service", Offset: 99900},
		"list":             {},
		"list-advanced":    {Complexity: &advanced},
		"list-service":     {Service: &one},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Search(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen verifies 10,000 services of 50 keys, and reads them.
func BenchmarkOpen(b *testing.B) {
	s := openNew(b)
	fill(b, newDriver(b, s), 10000)
	path := s.file.path
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(b.Context(), testOptions(path))
			if err != nil {
				b.Fatal(err)
			}
			_ = s.Close()
		}
	})
	s, err := Open(b.Context(), testOptions(path))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if err := s.Verify(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("records", func(b *testing.B) {
		for b.Loop() {
			n := 0
			err := s.Queries.Records(b.Context(), func(*conf.Record) error { n++; return nil })
			if err != nil || n != 10000 {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			sn, err := s.Snapshot(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := sn.WriteTo(new(counter)); err != nil {
				b.Fatal(err)
			}
			_ = sn.Close()
		}
	})
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// BenchmarkApplyFull changes a key each of 16 services in one batch, each with a request id,
// when there are as many versions and requests as are kept: each change drops the oldest.
func BenchmarkApplyFull(b *testing.B) {
	const services = 16
	s := openNew(b)
	d := newDriver(b, s)
	s.index.Project = func(service string, _, config json.RawMessage) ([]conf.Item, error) {
		return testProject(service, nil, config)
	}
	s.applier.Project = s.index.Project.Items
	setup := d.edit(command.ActionPut)
	name := func(i int) string { return fmt.Sprintf("service-%05d", i) }
	for i := range services {
		setup.Schemas = append(setup.Schemas, schemaOf(name(i), benchSchema()))
	}
	d.ok(setup)
	version := uint64(0)
	next := func() (batch []apply.Entry) {
		for i := range services {
			doc := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, version, strings.Repeat("x", 900))
			e := d.edit(command.ActionPatch, put(name(i), version, doc))
			e.ID = fmt.Sprintf("ann/%d-%d", version, i)
			e.Audit = []conf.Access{{UserID: "ann", Action: "write", Service: name(i), Success: true, Reason: e.Action, Timestamp: e.At}}
			batch = append(batch, d.entries(e)...)
		}
		version++
		return batch
	}
	for range apply.KeepVersions + 5 {
		if _, _, err := s.Apply(b.Context(), next()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		batch := next()
		b.StartTimer()
		if _, _, err := s.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
}
