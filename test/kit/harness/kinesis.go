package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// Region and credentials of the tests. kinesis-local accepts any.
const (
	Region          = "us-east-1"
	AccessKeyID     = "AKIAIOSFODNN7EXAMPLE"
	SecretAccessKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// startDeadline bounds the start of kinesis-local.
const startDeadline = 60 * time.Second

// Kinesis is a running kinesis-local.
type Kinesis struct {
	// Endpoint is its base URL, plain HTTP.
	Endpoint string
	// TLSPort is its port for TLS on 127.0.0.1, with a certificate that clients do
	// not trust.
	TLSPort int
	Client  *kinesis.Client

	process *process
}

// StartKinesis starts kinesis-local of readersDir on free ports, and returns when
// it responds.
func StartKinesis(ctx context.Context, readersDir string) (*Kinesis, error) {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	// A port that was free a moment ago can be taken: then the server ends,
	// and another pair of ports is tried.
	var err error
	for range 5 {
		var k *Kinesis
		var again bool
		if k, again, err = startKinesis(ctx, readersDir); !again {
			return k, err
		}
	}
	return nil, err
}

func startKinesis(ctx context.Context, readersDir string) (k *Kinesis, again bool, err error) {
	plain, tls, err := freePorts()
	if err != nil {
		return nil, false, err
	}
	// It finds its certificate in its working directory.
	dir := filepath.Join(readersDir, "node_modules", "kinesis-local")
	p, err := startProcess(dir, []string{
		"KINESIS_MOCK_PLAIN_PORT=" + strconv.Itoa(plain),
		"KINESIS_MOCK_TLS_PORT=" + strconv.Itoa(tls),
		"AWS_REGION=" + Region,
		"CREATE_STREAM_DURATION=1ms",
		"SHARD_LIMIT=10000",
		"LOG_LEVEL=WARN",
	}, "node", "main.js")
	if err != nil {
		return nil, false, err
	}
	k = &Kinesis{Endpoint: fmt.Sprintf("http://127.0.0.1:%d", plain), TLSPort: tls, process: p}
	k.Client = kinesis.New(kinesis.Options{
		Region:       Region,
		BaseEndpoint: aws.String(k.Endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKeyID, SecretAccessKey, ""),
	})
	err = Until(ctx, func() (bool, error) {
		if p.ended() {
			return false, errors.New("it ended")
		}
		_, err := k.Client.ListStreams(ctx, &kinesis.ListStreamsInput{}, once)
		return err == nil, nil
	})
	if err != nil {
		again = p.ended()
		p.kill()
		return nil, again, fmt.Errorf("harness: kinesis-local does not response: %w\n%s", err, tail(p.log.String()))
	}
	return k, false, nil
}

// once turns off the retries of the SDK, because the callers repeat the call.
func once(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }

func freePorts() (int, int, error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, fmt.Errorf("harness: no free port: %w", err)
		}
		defer l.Close() // at the end: else both could be the same
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}

// Stop ends it and discards its records.
func (k *Kinesis) Stop() { k.process.kill() }

// Log returns its output so far.
func (k *Kinesis) Log() string { return k.process.log.String() }

// CreateStream creates a stream and returns when it can be written.
func (k *Kinesis) CreateStream(ctx context.Context, name string, shards int) error {
	_, err := k.Client.CreateStream(ctx, &kinesis.CreateStreamInput{
		StreamName: aws.String(name),
		ShardCount: aws.Int32(int32(shards)),
	})
	if err == nil {
		_, err = k.active(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("harness: create stream %s: %w", name, err)
	}
	return nil
}

// SetMaxRecordSize raises what one record of the stream may hold, and returns
// when the stream can be written again.
func (k *Kinesis) SetMaxRecordSize(ctx context.Context, name string, kib int) error {
	stream, err := k.active(ctx, name)
	if err == nil {
		_, err = k.Client.UpdateMaxRecordSize(ctx, &kinesis.UpdateMaxRecordSizeInput{
			StreamARN:          stream.StreamARN,
			MaxRecordSizeInKiB: aws.Int32(int32(kib)),
		})
	}
	if err == nil {
		_, err = k.active(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("harness: max record size of %s: %w", name, err)
	}
	return nil
}

func (k *Kinesis) active(ctx context.Context, name string) (*types.StreamDescriptionSummary, error) {
	var stream *types.StreamDescriptionSummary
	err := Until(ctx, func() (bool, error) {
		out, err := k.Client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(name)})
		if err != nil {
			return false, err
		}
		stream = out.StreamDescriptionSummary
		return stream.StreamStatus == types.StreamStatusActive, nil
	})
	return stream, err
}

// Record is a Kinesis record as read from a shard.
type Record struct {
	Shard          string
	PartitionKey   string
	SequenceNumber string
	Data           []byte
}

// Reader reads a stream from its beginning, each record once.
type Reader struct {
	k         *Kinesis
	stream    string
	shards    []string
	iterators map[string]*string
}

// NewReader reads all shards that the stream has now.
func (k *Kinesis) NewReader(ctx context.Context, stream string) (*Reader, error) {
	r := &Reader{k: k, stream: stream, iterators: map[string]*string{}}
	in := &kinesis.ListShardsInput{StreamName: aws.String(stream)}
	for {
		out, err := k.Client.ListShards(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("harness: shards of %s: %w", stream, err)
		}
		for _, shard := range out.Shards {
			id := aws.ToString(shard.ShardId)
			first, err := k.Client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
				StreamName:        aws.String(stream),
				ShardId:           shard.ShardId,
				ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
			})
			if err != nil {
				return nil, fmt.Errorf("harness: read %s: %w", stream, err)
			}
			r.shards = append(r.shards, id)
			r.iterators[id] = first.ShardIterator
		}
		if out.NextToken == nil {
			return r, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

// Next returns the records since the previous call, shard by shard, in each shard
// in order. It does not wait.
func (r *Reader) Next(ctx context.Context) ([]Record, error) {
	var records []Record
	for _, shard := range r.shards {
		for {
			out, err := r.k.Client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: r.iterators[shard]})
			if err != nil {
				return nil, fmt.Errorf("harness: read %s: %w", r.stream, err)
			}
			r.iterators[shard] = out.NextShardIterator
			for _, rec := range out.Records {
				records = append(records, Record{
					Shard:          shard,
					PartitionKey:   aws.ToString(rec.PartitionKey),
					SequenceNumber: aws.ToString(rec.SequenceNumber),
					Data:           rec.Data,
				})
			}
			if len(out.Records) == 0 || out.NextShardIterator == nil {
				break
			}
		}
	}
	return records, nil
}

// ReadAll returns what is in the stream now.
func (k *Kinesis) ReadAll(ctx context.Context, stream string) ([]Record, error) {
	r, err := k.NewReader(ctx, stream)
	if err != nil {
		return nil, err
	}
	return r.Next(ctx)
}

// ReadUntil reads the stream until enough returns true for all records so far, or
// until ctx ends, and then returns the records so far with the error.
func (k *Kinesis) ReadUntil(ctx context.Context, stream string, enough func([]Record) (bool, error)) ([]Record, error) {
	r, err := k.NewReader(ctx, stream)
	if err != nil {
		return nil, err
	}
	var all []Record
	err = Until(ctx, func() (bool, error) {
		more, err := r.Next(ctx)
		if err != nil {
			return false, err
		}
		all = append(all, more...)
		return enough(all)
	})
	return all, err
}
