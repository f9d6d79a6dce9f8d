package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"out_kinesis_agg/internal/autostream"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/kpl"
)

const (
	// checkInterval is the time between two checks of a stream with the strategy
	// AUTO, and the longest delay of the first one. All agents of an account notice
	// AUTO at about the same time, and DescribeStreamSummary permits 20 calls a
	// second for all of them, so each waits for a random part of the interval.
	checkInterval = 5 * time.Minute

	// probeRequests is the number of records that find out whether a stream has
	// user partition keys again. In simulations, 100 find AUTO in at least 99.7% of
	// runs with up to 128 shards; if they do not, the next records do.
	probeRequests = 100
)

// intervalVariable is the name of the environment variable that replaces
// checkInterval, as a Go duration. It is for tests of the built library.
const intervalVariable = "KINESIS_AGG_CHECK_INTERVAL"

// intervalOf returns the interval in the environment, or checkInterval.
func intervalOf(value string) time.Duration {
	if d, err := time.ParseDuration(value); err == nil && d > 0 {
		return d
	}
	return checkInterval
}

// causeAuto is the cause of a flush that is held because of the strategy AUTO.
const causeAuto = "auto_stream"

// streamClient is the part of kinesis.Sender that a guard uses.
type streamClient interface {
	PutRecord(ctx context.Context, stream, partitionKey string, data []byte) (shardID string, err error)
	Describe(ctx context.Context, stream string) (kinesis.Stream, error)
}

// guard keeps aggregated records away from a stream while it has the record
// distribution strategy AUTO, which ignores partition keys: KCL drops the records
// silently. It is safe for concurrent use.
type guard struct {
	name     string
	client   streamClient
	interval time.Duration
	onAuto   string // on_auto_stream
	holdFile string // its path
	detector autostream.Detector

	checking sync.Mutex // held by the flush that checks the stream

	mu        sync.Mutex
	next      time.Time // of the next check, once AUTO is detected
	confirmed bool      // by DescribeStreamSummary
	denied    bool      // DescribeStreamSummary is not permitted
	// believed: DescribeStreamSummary reported user partition keys although the
	// responses contradicted them. They prove nothing then: emulators choose shards
	// in their own way. A contradiction only lets DescribeStreamSummary decide again.
	believed bool
}

// accepted records a response. It returns a line for the log if it proves that the
// stream has the strategy AUTO.
func (g *guard) accepted(t autostream.Ticket, partitionKey, shardID string) (alarm string) {
	if !g.detector.Observe(t, kpl.HashKeyOf(partitionKey), shardID) {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.believed {
		return ""
	}
	g.next = time.Now().Add(rand.N(g.interval))
	g.confirmed, g.denied = false, false
	return g.text()
}

// reported records that DescribeStreamSummary reported AUTO before a record was sent.
func (g *guard) reported() {
	g.detector.Alarm()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = time.Now().Add(rand.N(g.interval))
	g.confirmed = true
}

// effects says what happens to chunks, by the value of on_auto_stream.
var effects = map[string]string{
	option.Hold:   "chunks are held until that changes",
	option.NDJSON: "records are sent without the KPL format until that changes, because on_auto_stream is ndjson",
	option.Warn:   "chunks are still sent, because on_auto_stream is warn",
}

// text describes the state of a stream with AUTO. g.mu is locked.
func (g *guard) text() string {
	proof := "the shards in its responses do not match the partition keys"
	if g.confirmed {
		proof = "DescribeStreamSummary reports it"
	}
	return fmt.Sprintf("stream %s has the record distribution strategy AUTO (%s): KCL drops aggregated records from it without an error, so %s: change the stream's strategy to USER_PARTITION_KEY, or set record_format ndjson",
		g.name, proof, effects[g.onAuto])
}

// verdict is the result of a check.
type verdict struct {
	problem   string // why aggregated records must not be sent, or empty
	treatment string // of chunks if there is a problem: on_auto_stream, or option.Drop
	news      string // for the log
	alarm     bool   // AUTO was not known before
}

// check returns whether aggregated records may be sent to the stream, and what
// happens to chunks if not.
func (g *guard) check(ctx context.Context) verdict {
	v := g.recheck(ctx)
	if v.problem == "" {
		return v
	}
	v.treatment = g.onAuto
	if g.onAuto != option.Hold {
		return v
	}
	word, err := readHoldFile(g.holdFile)
	if err != nil {
		v.problem += ": the file that releases held chunks cannot be used: " + err.Error()
	}
	if word == option.Hold {
		v.problem += "; to release held chunks, write warn, ndjson or drop to " + g.holdFile
	} else {
		v.problem += "; they are released, because " + g.holdFile + " says " + word
	}
	v.treatment = word
	return v
}

// recheck returns what is known of the stream. If a check is due, the calling flush
// makes it, within ctx.
func (g *guard) recheck(ctx context.Context) verdict {
	if !g.detector.Detected() {
		return verdict{}
	}
	var v verdict
	g.mu.Lock()
	due := !time.Now().Before(g.next)
	if !g.believed {
		v.problem = g.text()
	}
	g.mu.Unlock()
	if !due || !g.checking.TryLock() {
		return v
	}
	defer g.checking.Unlock() // also after a panic
	state := g.describe(ctx)
	described := state == hasUserKeys
	if state == notPermitted && g.onAuto != option.Warn {
		state = g.probe(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next = time.Now().Add(g.interval*4/5 + rand.N(g.interval*2/5))
	switch {
	case state == hasAuto:
		v = verdict{alarm: g.believed}
		g.believed = false
		v.problem = g.text()
	case state == hasUserKeys && g.believed:
		g.detector.Reset()
		return verdict{}
	case described && !g.confirmed:
		g.detector.Reset()
		g.believed = true
		return verdict{news: fmt.Sprintf("stream %s has user partition keys according to DescribeStreamSummary, although the shards in its responses do not match them: delivery continues, and the detection of AUTO by responses is off for this stream; DescribeStreamSummary is asked again at most every %s",
			g.name, g.interval*4/5)}
	case state == hasUserKeys:
		g.detector.Reset()
		return verdict{news: fmt.Sprintf("stream %s has user partition keys, delivery continues", g.name)}
	}
	return v
}

// strategy is what a check finds out about the record distribution strategy.
type strategy int

const (
	unknown strategy = iota
	notPermitted
	hasAuto
	hasUserKeys
)

// describe asks Kinesis for the strategy. It returns notPermitted only if an earlier
// check was not permitted either: the first check of an alarm does not probe.
func (g *guard) describe(ctx context.Context) strategy {
	summary, err := g.client.Describe(ctx, g.name)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.denied = false
		if summary.DistributesRecords {
			g.confirmed = true
			return hasAuto
		}
		return hasUserKeys
	case kinesis.Classify(err) != kinesis.CauseAccessDenied:
		return unknown
	case !g.denied:
		g.denied = true
		return unknown
	}
	return notPermitted
}

// probe finds out the strategy without a permission: it sends aggregated records
// without user records, which consumers do not see, until their shards prove AUTO.
func (g *guard) probe(ctx context.Context) strategy {
	var probe autostream.Detector
	for range probeRequests {
		key, record := emptyRecord()
		ticket := probe.Begin()
		shardID, err := g.client.PutRecord(ctx, g.name, key, record)
		if err != nil {
			return unknown
		}
		if probe.Observe(ticket, kpl.HashKeyOf(key), shardID) {
			return hasAuto
		}
	}
	return hasUserKeys
}

// emptyRecord returns an aggregated record without user records, which consumers do
// not see, and its random partition key.
func emptyRecord() (partitionKey string, record []byte) {
	key := uuid.NewString()
	return key, kpl.Seal(kpl.AppendHead(nil, key))
}

// holdFile is the path of a file with which an operator releases held chunks while
// the engine runs: a reload cannot, because it waits for them. The environment
// variable holdFileVariable replaces the path.
const (
	holdFile         = "/run/kinesis_agg/on_auto_stream"
	holdFileVariable = "KINESIS_AGG_AUTO_STREAM_FILE"
	holdFileMaxBytes = 64
)

func holdFilePath() string {
	if path := os.Getenv(holdFileVariable); path != "" {
		return path
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "kinesis_agg", "on_auto_stream")
	}
	return holdFile
}

// readHoldFile returns the word in the file: option.Warn, option.NDJSON, option.Drop,
// or option.Hold if there is no file or it has no such word.
func readHoldFile(path string) (word string, err error) {
	// Opening a FIFO must not block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return option.Hold, nil
	}
	if err != nil {
		return option.Hold, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return option.Hold, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, holdFileMaxBytes))
	if err != nil {
		return option.Hold, err
	}
	switch word := strings.ToLower(strings.TrimSpace(string(data))); word {
	case option.Warn, option.NDJSON, option.Drop, option.Hold:
		return word, nil
	}
	return option.Hold, fmt.Errorf("%s has none of the words warn, ndjson, drop and hold", path)
}
