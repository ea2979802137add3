package instances

import (
	"container/list"
	"context"
	"time"
)

// maxFeed is how many services that changed are told at once. Who is further behind reads
// all that is shown.
const maxFeed = 1024

// feed is which services changed, in the order of their last change: who follows it pays
// for what changed since.
type feed struct {
	position uint64
	order    *list.List // of *service, the oldest change first
	elements map[*service]*list.Element
	changed  chan struct{}
}

func newFeed() feed {
	return feed{order: list.New(), elements: map[*service]*list.Element{}, changed: make(chan struct{})}
}

func (f *feed) add(s *service) {
	f.position++
	s.position = f.position
	if at := f.elements[s]; at != nil {
		f.order.MoveToBack(at)
	} else {
		f.elements[s] = f.order.PushBack(s)
	}
	f.wake()
}

func (f *feed) reset() {
	f.position, f.order, f.elements = 0, list.New(), map[*service]*list.Element{}
	f.wake()
}

func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Changes are the services whose instances changed after a position in a term.
type Changes struct {
	Term     uint64   `json:"term"`
	Position uint64   `json:"position"`
	Services []string `json:"services"`
}

// Since returns what changed after a position in a term; all services for another term. It
// waits until there is something, for wait at most.
func (t *Table) Since(ctx context.Context, term, position uint64, wait time.Duration) Changes {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		out, changed := t.since(term, position)
		if out.Term != term || len(out.Services) > 0 || wait == 0 {
			return out
		}
		select {
		case <-changed:
		case <-end.C:
			return out
		case <-ctx.Done():
			return out
		}
	}
}

func (t *Table) since(term, position uint64) (Changes, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if term != t.term || position > t.feed.position {
		position = 0
	}
	out := Changes{Term: t.term, Position: t.feed.position}
	for at := t.feed.order.Back(); at != nil && len(out.Services) < maxFeed; at = at.Prev() {
		s := at.Value.(*service)
		if s.position <= position {
			break
		}
		out.Services = append(out.Services, s.name)
	}
	return out, t.feed.changed
}
