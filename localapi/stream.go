package localapi

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"
)

// EventStream writes server-sent events. Each write has a deadline, so a client that
// does not read is disconnected. It belongs to one goroutine.
type EventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

// NewEventStream writes to a response whose header was written.
func NewEventStream(w http.ResponseWriter) *EventStream {
	return &EventStream{w: w, control: http.NewResponseController(w)}
}

// Send writes one event. An empty id is left out.
func (st *EventStream) Send(id, name string, data []byte) error {
	st.buf.Reset()
	if id != "" {
		st.buf.WriteString("id: " + id + "\n")
	}
	st.buf.WriteString("event: " + name + "\n")
	for line := range bytes.Lines(data) {
		st.buf.WriteString("data: ")
		st.buf.Write(bytes.TrimRight(line, "\r\n"))
		st.buf.WriteByte('\n')
	}
	st.buf.WriteByte('\n')
	return st.flush()
}

// Comment writes a comment, which readers ignore: it keeps the stream alive.
func (st *EventStream) Comment(text string) error {
	st.buf.Reset()
	st.buf.WriteString(": " + text + "\n\n")
	return st.flush()
}

func (st *EventStream) flush() error {
	if err := st.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := st.w.Write(st.buf.Bytes()); err != nil {
		return err
	}
	return st.control.Flush()
}

// EventID is the id of the event that tells of d; tag is what a client has of it then.
func (d *Document) EventID(tag string) string { return d.id + ":" + strings.Trim(tag, `"`) }

// Await blocks until there may be a change, and keeps the stream alive with a comment at
// each beat. It is false when the stream ends: with ctx, with stopping (nil: never), or
// with a client that does not read.
func (st *EventStream) Await(ctx context.Context, stopping, changed <-chan struct{}, beat <-chan time.Time) bool {
	for {
		select {
		case <-changed:
			return true
		case <-beat:
			if st.Comment("") != nil {
				return false
			}
		case <-ctx.Done():
			return false
		case <-stopping:
			return false
		}
	}
}
