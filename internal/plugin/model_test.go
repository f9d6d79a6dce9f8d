package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/chunktest"
)

// modelSchedules is the number of random schedules that the model test runs.
const modelSchedules = 10_000

// TestModel_EachPartOncePerChunk drives an instance as the engine does, through
// random schedules: several chunks, some of them with the same bytes and tag,
// several workers, any interleaving of their PutRecords, failures before and after
// Kinesis stored a record, time-outs, and dropped notes. The model predicts
// exactly how often Kinesis holds each log record: once for each chunk that
// contains it, once more for each lost response, and once more for each dropped
// note that had it as delivered.
func TestModel_EachPartOncePerChunk(t *testing.T) {
	for seed := range uint64(modelSchedules) {
		m := newModel(t, seed)
		m.run()
		if t.Failed() {
			t.Fatalf("schedule %d", seed)
		}
	}
}

// model is one schedule.
type model struct {
	t      *testing.T
	random *rand.Rand
	in     *Instance

	contents []content
	waiting  []content      // chunks that the engine holds, and does not flush now
	flushing []*modelFlush  // that wait for a response
	current  *modelFlush    // the one that runs; all others wait
	events   chan modelStep // of current

	compression compression.Format // of batches; "" without batches
	decoder     decompress.Decoder

	// want and got count the copies of each log record, by partition key (the
	// tag) and JSON.
	want, got map[string]int
	// faults is how many more failures there will be, so that a schedule ends.
	faults int
}

// content is the bytes and the tag of a chunk. Several chunks can have the same.
type content struct {
	tag string
	chunktest.Corpus
}

type modelFlush struct {
	content
	records []string // of the PutRecord that is under way, as keys of model.got
	reply   chan error
}

// modelStep is what a flush does next: it sends a record, or it ends.
type modelStep struct {
	records []string
	ended   bool
	outcome Outcome
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		t:      t,
		random: rand.New(rand.NewPCG(seed, 0x6d6f64656c)),
		events: make(chan modelStep),
		want:   map[string]int{},
		got:    map[string]int{},
		faults: 40,
	}
	in, _ := start(t, m.putRecord, append(m.batchOptions(), "max_record_size", "1000", "fixed_partition_key", "$TAG")...)
	m.in = in
	for i := range 1 + m.random.IntN(3) {
		m.addContent(i)
	}
	return m
}

// addContent makes one to four chunks of one content, sometimes with the bytes of
// another content and another tag.
func (m *model) addContent(i int) {
	c := content{tag: fmt.Sprintf("tag%d", i)}
	if i > 0 && m.random.IntN(3) == 0 {
		c.Corpus = m.contents[0].Corpus
	} else {
		var bodies []chunktest.Map
		for n := range 1 + m.random.IntN(12) {
			bodies = append(bodies, chunktest.M("c", i, "n", n, "log", m.text(m.random.IntN(400))))
		}
		c.Corpus = chunktest.NewCorpus(bodies...)
	}
	m.contents = append(m.contents, c)
	for range 1 + m.random.IntN(4) {
		m.waiting = append(m.waiting, c)
		for _, text := range c.JSON {
			m.want[c.tag+text]++
		}
	}
}

func (m *model) run() {
	workers := 1 + m.random.IntN(4)
	for len(m.waiting)+len(m.flushing) > 0 {
		canStart := len(m.waiting) > 0 && len(m.flushing) < workers
		switch {
		case m.faults > 0 && m.random.IntN(12) == 0:
			m.dropNote()
		case canStart && (len(m.flushing) == 0 || m.random.IntN(2) == 0):
			m.startFlush()
		default:
			m.respond()
		}
	}
	if !maps.Equal(m.got, m.want) {
		for record, n := range m.want {
			if m.got[record] != n {
				m.t.Errorf("%d copies of a log record, want %d: %s", m.got[record], n, record)
			}
		}
	}
	if n := m.in.progress.byAge.Len(); n != 0 || len(m.in.progress.byChunk) != 0 {
		m.t.Errorf("%d notes are left although every chunk is delivered", n)
	}
}

// startFlush flushes a random chunk on a goroutine of its own, up to its first
// PutRecord.
func (m *model) startFlush() {
	i := m.random.IntN(len(m.waiting))
	f := &modelFlush{content: m.waiting[i], reply: make(chan error)}
	m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
	m.current = f
	go func() {
		outcome := m.in.Flush(f.tag, f.Bytes)
		m.events <- modelStep{ended: true, outcome: outcome}
	}()
	m.next()
}

// putRecord is Kinesis: it waits until the schedule decides on the record.
func (m *model) putRecord(key string, data []byte) error {
	f := m.current
	a, err := kpl.Open(data)
	if err != nil {
		return err
	}
	var records []string
	for _, r := range a.All() {
		for _, text := range m.logRecords(r.Data) {
			records = append(records, key+text)
		}
	}
	m.events <- modelStep{records: records}
	return <-f.reply
}

// next waits until the flush that runs sends a record or ends.
func (m *model) next() {
	f, step := m.current, <-m.events
	switch {
	case !step.ended:
		f.records = step.records
		m.flushing = append(m.flushing, f)
	case step.outcome == Retry:
		m.waiting = append(m.waiting, f.content)
	case step.outcome != Delivered:
		m.t.Errorf("outcome %v", step.outcome)
	}
}

// respond decides what becomes of a random PutRecord that is under way.
func (m *model) respond() {
	i := m.random.IntN(len(m.flushing))
	f := m.flushing[i]
	m.flushing = append(m.flushing[:i], m.flushing[i+1:]...)
	var err error
	stored := true
	if m.faults > 0 && m.random.IntN(2) == 0 {
		m.faults--
		switch m.random.IntN(5) {
		case 0:
			err = errors.New("the response is lost")
			for _, record := range f.records {
				m.want[record]++
			}
		case 1:
			err, stored = context.DeadlineExceeded, false
		default:
			err, stored = errors.New("throttled"), false
		}
	}
	if stored {
		for _, record := range f.records {
			m.got[record]++
		}
	}
	m.current = f
	f.reply <- err
	m.next()
}

// dropNote drops the oldest note, by age or as if there were too many. The records
// before its offset are then sent once more.
func (m *model) dropNote() {
	p := &m.in.progress
	oldest := p.byAge.Front()
	if oldest == nil {
		return
	}
	m.faults--
	n := oldest.Value.(note)
	var found *content
	for i := range m.contents {
		if c := &m.contents[i]; identify(c.tag, c.Bytes) == n.id {
			found = c
		}
	}
	if found == nil {
		m.t.Fatal("a note of a chunk that does not exist")
	}
	for i, text := range found.JSON {
		if found.Ends[i] <= n.offset {
			m.want[found.tag+text]++
		}
	}
	p.remove(oldest)
}

// TestModel_ConcurrentIdenticalChunks is the same without a schedule: workers run
// freely, so that the race detector sees them.
func TestModel_ConcurrentIdenticalChunks(t *testing.T) {
	const workers, copies = 8, 200
	c := chunktest.AccessLog(1, 60)
	sink := &syncSink{got: map[string]int{}}
	in, _ := start(t, nil, "max_record_size", "4000")
	in.sender = sink
	chunks := make(chan int, copies)
	for i := range copies {
		chunks <- i
	}
	done := make(chan struct{})
	left := make(chan struct{}, copies)
	for range workers {
		go func() {
			for {
				select {
				case i := <-chunks:
					if in.Flush("app", c.Bytes) == Delivered {
						left <- struct{}{}
					} else {
						chunks <- i
					}
				case <-done:
					return
				}
			}
		}()
	}
	for range copies {
		<-left
	}
	close(done)
	for _, text := range c.JSON {
		if n := sink.got[text]; n != copies {
			t.Fatalf("%d copies of a user record, want %d", n, copies)
		}
	}
}
