package schema

import (
	"bytes"
	"container/list"
	"encoding/json"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Limits of a Cache.
const (
	maxCached  = 48 << 20    // estimated bytes of the compiled schemas that it keeps,
	minCached  = 2 << 20     // and in a process with little memory
	ofMemory   = 16          // a part of Go's memory limit
	cacheEntry = 512         // of one, beside its text and what it compiles to
	idleAfter  = time.Minute // what nobody asked for in so long is not kept

	maxAllPatternMemory = 256 << 20 // of the patterns of all schemas, cached or not
	freePatternMemory   = 64 << 10  // a schema with so little is admitted in any case
)

// Cache caches compiled schemas by the text of their document: services that have the same
// document share what it compiles to. Compiled, a document takes ten times its text and
// more, so the cache keeps what is used: at most maxCached bytes of it, and less in a small
// process, without what nobody has asked for in a minute. Its zero value is not usable; call NewCache.
type Cache struct {
	seed  maphash.Seed
	limit int

	mu       sync.Mutex
	entries  map[uint64]*list.Element // of used, by the hash of the text
	used     list.List                // of *entry, the newest use first
	memory   int                      // of the entries
	sweeping bool                     // a sweep is due
	compiled int                      // texts, in all

	patterns map[string]int // memory of the patterns of services that have many; see fits
}

// entry is one text of a schema. The first caller compiles it; the others wait.
type entry struct {
	hash    uint64
	raw     []byte
	service string // of the first caller
	once    sync.Once
	model   *model
	err     error // names service
	memory  int   // as counted by the cache
	idle    bool  // since the last sweep
}

// NewCache returns an empty cache.
func NewCache() *Cache {
	limit := int(min(max(debug.SetMemoryLimit(-1)/ofMemory, minCached), maxCached))
	return &Cache{seed: maphash.MakeSeed(), limit: limit, entries: map[uint64]*list.Element{}, patterns: map[string]int{}}
}

// Get returns the compiled schema of a service. Errors are cached too: a rejected
// text is rejected again without work.
func (c *Cache) Get(service string, raw []byte) (*Schema, error) {
	if len(raw) > conf.MaxSchema || conf.CheckService(service) != nil {
		return Compile(service, raw) // rejects it at once
	}
	e := c.entry(service, raw)
	e.once.Do(func() {
		s, err := Compile(service, e.raw)
		e.err = err
		if err == nil {
			e.model = s.model
		}
		c.count(e)
	})
	if e.err != nil {
		if e.service == service {
			return nil, e.err
		}
		return Compile(service, e.raw)
	}
	s := &Schema{service, e.model}
	c.notePatterns(s)
	return s, nil
}

// entry returns the entry of a text, which is the newest use now.
func (c *Cache) entry(service string, raw []byte) *entry {
	hash := maphash.Bytes(c.seed, raw)
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.entries[hash]; at != nil {
		e := at.Value.(*entry)
		if bytes.Equal(e.raw, raw) {
			e.idle = false
			c.used.MoveToFront(at)
			return e
		}
		c.remove(at)
	}
	e := &entry{hash: hash, raw: bytes.Clone(raw), service: service, memory: cacheEntry + len(raw)}
	c.entries[hash] = c.used.PushFront(e)
	c.memory += e.memory
	c.compiled++
	if !c.sweeping {
		c.sweeping = true
		time.AfterFunc(idleAfter, c.sweep)
	}
	return e
}

// count adds what an entry has compiled to, and lets go of those that were not used for
// the longest time.
func (c *Cache) count(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.entries[e.hash]; at == nil || at.Value.(*entry) != e {
		return // it is gone already
	}
	if e.model != nil {
		e.memory += e.model.memory
		c.memory += e.model.memory
	}
	for c.memory > c.limit && c.used.Len() > 1 {
		c.remove(c.used.Back())
	}
}

// remove lets go of an entry. Who uses it has it. The caller holds mu.
func (c *Cache) remove(at *list.Element) {
	e := c.used.Remove(at).(*entry)
	delete(c.entries, e.hash)
	c.memory -= e.memory
}

// sweep lets go of what was not used since the last sweep.
func (c *Cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.used.Front(); at != nil; {
		e, next := at.Value.(*entry), at.Next()
		if e.idle {
			c.remove(at)
		}
		e.idle = true
		at = next
	}
	if c.sweeping = c.used.Len() > 0; c.sweeping {
		time.AfterFunc(idleAfter, c.sweep)
	}
}

// Drop lets go of all compiled schemas; they are compiled again when they are used.
func (c *Cache) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.used.Len() > 0 {
		c.remove(c.used.Back())
	}
}

// Admit is Get for a schema that is about to be stored. It returns an error when its
// patterns and those of the other services that this process has compiled take more memory
// than all may. What is stored is never refused: Get has no such limit.
func (c *Cache) Admit(service string, raw []byte) (*Schema, error) {
	c.mu.Lock()
	was, had := c.patterns[service]
	c.mu.Unlock()
	s, err := c.Get(service, raw)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fits(s); err != nil {
		delete(c.patterns, service)
		if had {
			c.patterns[service] = was
		}
		return nil, err
	}
	return s, nil
}

// Check returns what Admit would, and keeps nothing: a caller that may read can ask for it.
func (c *Cache) Check(service string, raw []byte) (*Schema, error) {
	s, err := Compile(service, raw)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return s, c.fits(s)
}

// notePatterns remembers what the patterns of a service take, if that is much.
func (c *Cache) notePatterns(s *Schema) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.patternMemory > freePatternMemory {
		c.patterns[s.service] = s.patternMemory
	} else {
		delete(c.patterns, s.service)
	}
}

// fits returns an error when s, in place of the schema that the service has, takes too
// much memory, or work for documents as deep as its own. What compiles to much memory is
// counted here while it is stored, whether it is cached or not: the changes of all services
// would have no room for each other. The caller holds c.mu.
func (c *Cache) fits(s *Schema) error {
	if err := s.checkDepth(); err != nil {
		return err
	}
	total := s.patternMemory
	for name, memory := range c.patterns {
		if name != s.service {
			total += memory
		}
	}
	if total <= maxAllPatternMemory || s.patternMemory <= freePatternMemory {
		return nil
	}
	return conf.Errorf(conf.CodeInvalid, "schema of %s is rejected: its patterns take %s compiled, and with those of all other services %s, at most %s",
		s.service, mebibytes(s.patternMemory), mebibytes(total), mebibytes(maxAllPatternMemory)).
		WithHint("use fewer patterns, or smaller repetitions and classes; nothing was changed")
}

// Items returns the items of an effective document, by the schema of its service
// or, without one, by its values.
func (c *Cache) Items(service string, schema, config json.RawMessage) ([]conf.Item, error) {
	doc, err := conf.ParseObject(config, conf.MaxDocument)
	if err != nil {
		return nil, err
	}
	if len(schema) == 0 {
		return Infer(service, doc), nil
	}
	s, err := c.Get(service, schema)
	if err != nil {
		return nil, err
	}
	return s.Items(service, doc), nil
}
