package broker

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// topicIndex lists the connections that may have subscribed to a topic, so that the cost of a
// message depends on its own subscribers. It may list too many: sendQueue.add checks the
// filters again. Broker.mu guards it.
type topicIndex struct {
	exact map[string]map[*conn]struct{} // by topic
	wild  map[*conn]struct{}            // those with a wildcard in a filter
	of    map[*conn][]string            // the topics of a connection in exact
}

func newTopicIndex() topicIndex {
	return topicIndex{exact: map[string]map[*conn]struct{}{}, wild: map[*conn]struct{}{}, of: map[*conn][]string{}}
}

func (b *topicIndex) add(c *conn, subs []packets.Subscription) {
	topics := b.of[c]
	for _, s := range subs {
		if strings.ContainsAny(s.Filter, wildOne+wildAll) {
			b.wild[c] = struct{}{}
			continue
		}
		if b.exact[s.Filter] == nil {
			b.exact[s.Filter] = map[*conn]struct{}{}
		}
		if _, listed := b.exact[s.Filter][c]; !listed {
			b.exact[s.Filter][c] = struct{}{}
			topics = append(topics, s.Filter)
		}
	}
	b.of[c] = topics
}

// remove removes c from the topics of subs.
func (b *topicIndex) remove(c *conn, subs []packets.Subscription) {
	topics := b.of[c][:0]
	for _, t := range b.of[c] {
		gone := false
		for _, s := range subs {
			gone = gone || s.Filter == t
		}
		if gone {
			b.drop(c, t)
		} else {
			topics = append(topics, t)
		}
	}
	if b.of[c] != nil {
		b.of[c] = topics
	}
}

// removeConn removes c everywhere.
func (b *topicIndex) removeConn(c *conn) {
	for _, t := range b.of[c] {
		b.drop(c, t)
	}
	delete(b.of, c)
	delete(b.wild, c)
}

func (b *topicIndex) drop(c *conn, topic string) {
	delete(b.exact[topic], c)
	if len(b.exact[topic]) == 0 {
		delete(b.exact, topic)
	}
}

// publish adds m to the queue of each connection that may have subscribed, once.
func (b *topicIndex) publish(m *message) {
	own := b.exact[m.topic]
	for c := range own {
		c.queue.add(m)
	}
	for c := range b.wild {
		if _, done := own[c]; !done {
			c.queue.add(m)
		}
	}
}
