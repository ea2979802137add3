package testenv

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kinds of operations on a register, which is one service with one value.
const (
	opPut    = "put"    // sets the value if the version is the expected one
	opPatch  = "patch"  // sets the value whatever the version is
	opDelete = "delete" // if the version is the expected one
	opGet    = "get"    // consistent=1
)

type input struct {
	op, service, value string
	expect             uint64
}

// output is what a client was told. Nothing is known of an operation whose answer
// was lost: it may have been carried out, at any later time, or never.
type output struct {
	unknown bool
	ok      bool   // carried out; of a get: there is a value
	value   string // of a get
	version uint64 // that it made, or read; of a conflict: the present one, of a missing one 0
}

// register is the state of one service. It begins as its schema makes it.
type register struct {
	version uint64
	exists  bool
	value   string
}

// registers says what a service is to its clients, whatever happens to the agents:
// one place that holds one value and counts its changes.
var registers = porcupine.Model{
	Init: func() any { return register{version: 1, exists: true} },
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			s := op.Input.(input).service
			parts[s] = append(parts[s], op)
		}
		var out [][]porcupine.Operation
		for _, p := range parts {
			out = append(out, p)
		}
		return out
	},
	Step: func(state, in, out any) (bool, any) { return step(state.(register), in.(input), out.(output)) },
	DescribeOperation: func(in, out any) string {
		return fmt.Sprintf("%+v -> %+v", in, out)
	},
}

// step is the next state, and whether the answer is one that the state allows.
func step(s register, in input, out output) (bool, register) {
	if in.op == opGet {
		if out.unknown {
			return true, s
		}
		if !out.ok {
			return !s.exists, s
		}
		return s.exists && out.version == s.version && out.value == s.value, s
	}
	next := register{version: s.version + 1, exists: in.op != opDelete, value: in.value}
	applies := in.op == opPatch || in.expect == s.version
	if in.op == opDelete {
		applies = applies && s.exists
		next.value = ""
	}
	switch {
	case out.unknown && applies:
		return true, next
	case out.unknown:
		return true, s
	case out.ok:
		return applies && out.version == next.version, next
	case out.version != 0: // a conflict
		// A patch names no version. It meets one all the same when a change of unknown
		// outcome was still on its way through the log; nothing happened then.
		return (in.op == opPatch || in.expect != s.version) && out.version == s.version, s
	default: // there is nothing to delete
		return in.op == opDelete && !s.exists, s
	}
}

// History is what clients asked and were told, and what readers saw.
type History struct {
	start time.Time

	mu       sync.Mutex
	ops      []porcupine.Operation
	unknown  int
	problems []string
	written  map[string]string // service/version -> value: all have to see the same
	seen     map[string]uint64 // stream of observations -> highest version
	acked    map[string]uint64 // service -> highest acknowledged version
	counts   map[string]int
	refused  map[string]string // value that was refused for certain -> how
}

// NewHistory begins one.
func NewHistory() *History {
	return &History{
		start: time.Now(), written: map[string]string{}, seen: map[string]uint64{}, acked: map[string]uint64{}, counts: map[string]int{}, refused: map[string]string{},
	}
}

// now is the time inside the history.
func (h *History) now() int64 { return int64(time.Since(h.start)) }

// add notes an operation that ended.
func (h *History) add(client int, in input, call int64, out output) {
	ret := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[in.op]++
	if out.unknown {
		h.unknown++
		if in.op == opGet {
			return
		}
		ret = 1 << 62
	}
	if in.op == opPatch && !out.unknown && !out.ok {
		h.counts["conflicts of patches"]++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: ret})
	h.checkExpect(in, out)
	if out.ok && in.op != opGet {
		h.counts["acknowledged"]++
		h.acked[in.service] = max(h.acked[in.service], out.version)
	}
	if out.ok {
		value := in.value
		switch in.op {
		case opGet:
			value = out.value
		case opDelete:
			value = deletedValue
		}
		h.same(in.service, out.version, value, "an answer to "+in.op)
	}
}

// checkExpect holds that a write which names a version is made on that version and on no
// other. The model has this too; but of a history that breaks it, with outcomes unknown,
// porcupine may not come to an end. The caller holds mu.
func (h *History) checkExpect(in input, out output) {
	switch {
	case in.op != opPut && in.op != opDelete, out.unknown:
	case out.ok && out.version != in.expect+1:
		h.problem("a %s of %s that expects version %d was made as version %d", in.op, in.service, in.expect, out.version)
	case !out.ok && out.version != 0 && out.version == in.expect:
		h.problem("a %s of %s that expects version %d was refused because the version is %d", in.op, in.service, in.expect, out.version)
	}
}

// Problems is how many things were seen that must not be.
func (h *History) Problems() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.problems)
}

const deletedValue = "(deleted)"

// same holds that a version of a service has one value, wherever it is seen. The
// caller holds mu.
func (h *History) same(service string, version uint64, value, where string) {
	if how, ok := h.refused[value]; ok {
		h.problem("%s has %q in version %d, which was refused: %s", service, value, version, how)
		delete(h.refused, value)
	}
	key := fmt.Sprintf("%s/%d", service, version)
	if old, ok := h.written[key]; ok && old != value {
		h.problem("%s has two values in version %d: %q, and %q in %s", service, version, old, value, where)
	}
	h.written[key] = value
}

func (h *History) problem(format string, args ...any) {
	if len(h.problems) < 20 {
		h.problems = append(h.problems, fmt.Sprintf("%v ", time.Since(h.start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

// Problem notes something that must not be.
func (h *History) Problem(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problem(format, args...)
}

// refuse notes that a value was refused for certain.
func (h *History) refuse(value, how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts["refused"]++
	h.refused[value] = how
}

// count counts something by name.
func (h *History) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[what]++
}

// Count is how often something was done.
func (h *History) Count(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts[what]
}

// Counts is all of them, for a report.
func (h *History) Counts() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%v, unknown outcomes: %d", h.counts, h.unknown)
}

// observe notes that a stream of observations, such as one process's local reads
// of a service in one epoch, saw a version. It never goes back; strictly: it does
// not stay either.
func (h *History) observe(stream, service string, version uint64, value string, strictly bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, ok := h.seen[stream]
	if ok && (version < last || strictly && version == last) {
		h.problem("%s saw version %d of %s after version %d", stream, version, service, last)
	}
	h.seen[stream] = max(last, version)
	h.same(service, version, value, stream)
}

// Check holds the history against the model.
func (h *History) Check(t testing.TB) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.problems) > 0 { // the history is then that of no single place; porcupine may take long to say so
		t.Errorf("seen by the clients:\n%s", strings.Join(h.problems, "\n"))
		return
	}
	ops := h.settled()
	result, info := porcupine.CheckOperationsVerbose(registers, ops, 2*time.Minute)
	switch result {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		t.Errorf("not decided: %d operations of %d, with outcomes unknown to their clients: %d", len(ops), len(h.ops), h.unknown)
		return
	}
	path := t.TempDir() + "/history.html"
	if err := porcupine.VisualizePath(registers, info, path); err != nil {
		t.Log(err)
	}
	t.Errorf("the history of %d operations is %s: not that of one place", len(ops), result)
	explain(t, ops)
}

// settled is the history without the unknown outcomes that others saw the truth of,
// each of which doubles what porcupine has to try. Every value is written once, and a
// version has one value (same holds that). So a write whose value was seen in a
// version was carried out. One whose value is in none of the versions was not, or
// after all that anybody heard of, when the versions are known without a gap; or when
// the only one that it could make is somebody else's. The caller holds mu.
func (h *History) settled() []porcupine.Operation {
	made := map[string]uint64{} // service/value -> version
	last, known := map[string]uint64{}, map[string]uint64{}
	for at, value := range h.written {
		service, number, _ := strings.Cut(at, "/")
		version, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			panic(err)
		}
		made[service+"/"+value] = version
		last[service] = max(last[service], version)
		if version > 1 { // the first is the schema's
			known[service]++
		}
	}
	for _, op := range h.ops { // a conflict tells of a version, too
		service := op.Input.(input).service
		last[service] = max(last[service], op.Output.(output).version)
	}
	var out []porcupine.Operation
	for _, op := range h.ops {
		in := op.Input.(input)
		if !op.Output.(output).unknown {
			out = append(out, op)
			continue
		}
		version, seen := made[in.service+"/"+in.value]
		_, taken := h.written[fmt.Sprintf("%s/%d", in.service, in.expect+1)]
		switch {
		case seen:
			op.Output = output{ok: true, version: version}
		case in.op != opPatch && taken, in.op != opDelete && known[in.service]+1 == last[in.service]:
			continue
		}
		out = append(out, op)
	}
	return out
}

// explain shows the end of the shortest beginning of each history that breaks the
// model.
func explain(t testing.TB, ops []porcupine.Operation) {
	for _, part := range registers.Partition(ops) {
		if porcupine.CheckOperationsTimeout(registers, part, 30*time.Second) == porcupine.Ok {
			continue
		}
		at := sort.Search(len(part), func(i int) bool {
			return porcupine.CheckOperationsTimeout(registers, until(part, part[i].Return), 10*time.Second) == porcupine.Illegal
		})
		if at == len(part) {
			t.Logf("undecided: %d operations of %s", len(part), part[0].Input.(input).service)
			continue
		}
		end := part[at].Return
		for _, op := range part {
			if op.Return >= end-int64(2*time.Second) && op.Call <= end+int64(time.Second) {
				t.Logf("%10.3f .. %10.3f client %d: %s", float64(op.Call)/1e9, float64(op.Return)/1e9, op.ClientId, registers.DescribeOperation(op.Input, op.Output))
			}
		}
	}
}

// until is what was known at a time: what had not returned by then is of unknown
// outcome.
func until(part []porcupine.Operation, end int64) (out []porcupine.Operation) {
	for _, op := range part {
		switch {
		case op.Call > end:
			continue
		case op.Return > end && op.Input.(input).op == opGet:
			continue
		case op.Return > end:
			op.Return, op.Output = 1<<62, output{unknown: true}
		}
		out = append(out, op)
	}
	return out
}
