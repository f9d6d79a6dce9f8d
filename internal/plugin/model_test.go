package plugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
)

// modelSchedules is the number of random schedules that the model test runs.
const modelSchedules = 2_000

// TestModel_EachPartOncePerChunk drives an instance as the engine does, through
// random schedules: several chunks, some of them with the same bytes and tag,
// several workers, any interleaving of their PutRecords, failures before and after
// Kinesis stored a record, timeouts, and dropped notes. The model predicts exactly how
// often Kinesis has each log record: once for each chunk that contains it, once more
// for each lost response, and once more for each dropped note that had it as
// delivered.
//
// With random partition keys, the model also predicts the records: a part that may be
// stored comes again with the same key and bytes, and every other part has a new key.
// A consumer that reads each partition key once then gets a lost response's records
// once, unless the note with the key was dropped.
func TestModel_EachPartOncePerChunk(t *testing.T) {
	schedules := uint64(modelSchedules)
	if testing.Short() {
		schedules = 100
	}
	for seed := range schedules {
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

	bare        bool               // records without the envelope
	compression compression.Format // of batches; "" without batches
	decoder     decompress.Decoder

	// want and got count the copies of each log record, by tag and JSON.
	want, got map[string]int

	randomKeys bool
	sent       map[string]*modelRecord // by partition key, with randomKeys
	notes      []modelNote             // that the instance has, the oldest first
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
	modelNote
	records []string // of the PutRecord that is under way, as keys of model.got
	reply   chan error
}

// modelNote is what a flush continues with.
type modelNote struct {
	id        chunkID
	delivered bool         // a part
	unsettled *modelRecord // that may be stored
}

// modelRecord is a Kinesis record with a random key.
type modelRecord struct {
	data    string
	records []string
	stored  bool
	// uncertain: the response to one of its requests is missing.
	uncertain bool
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
		sent:   map[string]*modelRecord{},
		faults: 40,
	}
	options := append(m.batchOptions(), "max_record_size", "1000")
	if m.randomKeys = m.random.IntN(2) == 0; !m.randomKeys {
		options = append(options, "fixed_partition_key", "$TAG")
	}
	m.in, _ = start(t, m.putRecord, options...)
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
	f.id = identify(f.tag, f.Bytes)
	if i := slices.IndexFunc(m.notes, func(n modelNote) bool { return n.id == f.id }); i >= 0 {
		f.modelNote = m.notes[i]
		m.notes = slices.Delete(m.notes, i, i+1)
	}
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
	var records []string
	for _, userRecord := range m.userRecords(data) {
		for _, text := range m.logRecords(userRecord) {
			records = append(records, f.tag+text)
		}
	}
	if m.randomKeys {
		m.checkKey(f, key, string(data), records)
	} else if key != f.tag {
		m.t.Errorf("partition key %q, want %q", key, f.tag)
	}
	m.events <- modelStep{records: records}
	return <-f.reply
}

// checkKey checks the key of a record against the prediction.
func (m *model) checkKey(f *modelFlush, key, data string, records []string) {
	known := m.sent[key]
	switch {
	case known != f.unsettled:
		m.t.Errorf("a part that may be stored has a new key, or another part has its key")
	case known != nil && known.data != data:
		m.t.Errorf("a repeated record has other bytes")
	case known == nil:
		f.unsettled = &modelRecord{data: data, records: records}
		m.sent[key] = f.unsettled
	}
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
		if f.delivered || f.unsettled != nil {
			m.notes = append(m.notes, f.modelNote)
		}
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
		case 0, 1:
			err = errors.New("the response is lost")
		case 2:
			err, stored = context.DeadlineExceeded, false
		default:
			err, stored = errThrottled, false
		}
	}
	m.store(f, stored, err)
	m.current = f
	f.reply <- err
	m.next()
}

// store keeps the record of a PutRecord, and what the instance now knows of it.
func (m *model) store(f *modelFlush, stored bool, err error) {
	r := f.unsettled
	known := r != nil && r.stored // by its key
	if stored && !known {
		for _, record := range f.records {
			m.got[record]++
			if err != nil && !m.randomKeys {
				m.want[record]++
			}
		}
	}
	switch {
	case !m.randomKeys:
		f.delivered = f.delivered || err == nil
		return
	case stored:
		r.stored = true
	}
	switch {
	case err == nil:
		f.delivered, f.unsettled = true, nil
	case err == errThrottled && !r.uncertain:
		f.unsettled = nil
	default:
		r.uncertain = err != errThrottled || r.uncertain
	}
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
	if m.randomKeys {
		if r := m.notes[0].unsettled; r != nil && r.stored {
			for _, record := range r.records {
				m.want[record]++
			}
		}
		m.notes = m.notes[1:]
	}
	p.remove(oldest)
}

// TestModel_ConcurrentIdenticalChunks is the same without a schedule: workers run
// freely, so that the race detector sees them.
func TestModel_ConcurrentIdenticalChunks(t *testing.T) {
	for _, format := range aggregator.Formats() {
		t.Run(string(format), func(t *testing.T) { concurrentIdenticalChunks(t, format) })
	}
}

func concurrentIdenticalChunks(t *testing.T, format aggregator.Format) {
	const workers, copies = 8, 200
	c := chunktest.AccessLog(1, 60)
	sink := &syncSink{got: map[string]int{}}
	in, _ := start(t, nil, "max_record_size", "4000", "record_format", string(format))
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
