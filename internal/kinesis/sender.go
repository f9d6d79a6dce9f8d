// Package kinesis sends records to Kinesis data streams. It manages credentials,
// connections and time limits. Its errors have the type *Error, except those of Open.
//
// The package is independent of the plugin, its options and the content of records.
// It does not retry, except for one repetition with Settings.AutoRetry.
package kinesis

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Sender sends records. It is safe for concurrent use.
type Sender struct {
	client         *kinesis.Client
	pool           *http.Transport
	signer         *signer
	loader         *loader
	requestTimeout time.Duration
	autoRetry      bool
	format         WireFormat
	fallback       fallback
	plaintext      []string
}

// Open creates a Sender. It reads the environment and the shared configuration files,
// but makes no request: the first PutRecord fetches credentials. When the files change
// later, only the credentials are read again. An error in one of the settings is a
// *SettingError. The caller must close the Sender.
func Open(ctx context.Context, s Settings) (*Sender, error) {
	if s.RequestTimeout == 0 {
		s.RequestTimeout = DefaultRequestTimeout
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = DefaultConnectTimeout
	}
	if s.MaxResponseBytes == 0 {
		s.MaxResponseBytes = maxResponseBytes
	}
	hidden := newSecrets(s)
	from := &loader{settings: s, hidden: hidden}
	files := sharedFiles(s)
	seen := stat(files) // before they are read, so that no later change is missed
	cfg, err := from.load(ctx)
	if err != nil {
		return nil, err
	}

	// load has set a client of this type. The SDK may have added a CA bundle to it.
	pool := pooled(cfg.HTTPClient.(*awshttp.BuildableClient).GetTransport())
	cfg.HTTPClient = sendingClient(s, pool, hidden, s.RequestTimeout)
	chain := newChain(cfg, files, seen, from.load)
	cfg.Credentials = chain
	from.roles.Client = sts.NewFromConfig(cfg, func(o *sts.Options) {
		o.HTTPClient = sendingClient(s, pool, hidden, credentialsTimeout(s))
		if s.STSEndpoint != "" {
			o.BaseEndpoint = &s.STSEndpoint
		}
	})
	signer := newSigner(chain, s, &from.roles, hidden)
	cfg.Credentials = signer
	client := kinesis.NewFromConfig(cfg, func(o *kinesis.Options) {
		if s.Endpoint != "" {
			o.BaseEndpoint = &s.Endpoint
		}
	})
	format := s.WireFormat
	if format == Auto {
		format = JSON
		if client.Options().BaseEndpoint == nil {
			format = CBOR
		}
	}
	return &Sender{
		client:         client,
		pool:           pool,
		signer:         signer,
		loader:         from,
		requestTimeout: s.RequestTimeout,
		autoRetry:      s.AutoRetry,
		format:         format,
		fallback:       fallback{enabled: s.WireFormat == Auto, notify: s.CBORRefused},
		plaintext:      plaintextRemote(client.Options().BaseEndpoint, from.roles.Options().BaseEndpoint),
	}, nil
}

// plaintextRemote returns the base URLs with the scheme http that are not on this host.
func plaintextRemote(bases ...*string) []string {
	var found []string
	for _, base := range bases {
		u, err := url.Parse(aws.ToString(base))
		if err == nil && u.Scheme == "http" && !thisHost(u.Hostname()) {
			found = append(found, u.Redacted())
		}
	}
	return found
}

// Client returns the client of the SDK, for requests other than those of the Sender. It
// does not retry. Classify knows its errors.
func (s *Sender) Client() *kinesis.Client { return s.client }

// Region returns the region that requests go to.
func (s *Sender) Region() string { return s.client.Options().Region }

// Endpoint returns the base URL of Kinesis from the settings, the environment or the
// profile, and an empty string if requests go to AWS's own host.
func (s *Sender) Endpoint() string { return aws.ToString(s.client.Options().BaseEndpoint) }

// PlaintextRemote returns the endpoints on other hosts to which records or credentials
// are sent without encryption.
func (s *Sender) PlaintextRemote() []string { return s.plaintext }

// PutRecord sends one record to stream, which is a name or an ARN. It returns the ID of
// the shard that stores the record, or an *Error. It takes at most RequestTimeout,
// or less if ctx ends earlier. It does not use data after it returns.
//
// After an error, the record may still be stored, because a response can be lost:
// see NotStored.
func (s *Sender) PutRecord(ctx context.Context, stream, partitionKey string, data []byte) (shardID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.requestTimeout)
	defer cancel()
	ctx, try := newAttempt(ctx)

	// ExplicitHashKey is not set: it could select a shard that does not own the hash
	// of the partition key, and KCL would drop the aggregated record.
	in := &kinesis.PutRecordInput{PartitionKey: &partitionKey, Data: data}
	in.StreamName, in.StreamARN = streamID(stream)
	r := requests.Get().(*request)
	defer requests.Put(r)
	format := s.format
	if s.fallback.toJSON.Load() {
		format = JSON
	}
	r.encode(format, stream, partitionKey, data)
	out, err := s.send(ctx, in, r)
	maybeStored := false
	if format == CBOR {
		if s.fallback.applies(err) {
			// With the same key: after an unreadable response, the record may be stored.
			maybeStored = !NotStored(err)
			refusal := err
			r.encode(JSON, stream, partitionKey, data)
			if out, err = s.send(ctx, in, r); err == nil || !refusesCBOR(err, true) {
				s.fallback.stay(s.failed(ctx, try, "put record to "+stream, refusal))
			}
		} else if err == nil {
			s.fallback.accepted.Store(true)
		}
	}
	repeated := err != nil && s.autoRetry && Classify(err) == CauseConnection
	if repeated {
		// Repeat without delay, because a new connection probably works if a pooled
		// one was stale, and a failed flush waits for seconds. Repeat once, because
		// the engine retries next. Do not repeat after other failures: a timeout has
		// used all the time; DNS, certificates and refused connections (every address
		// was tried) are unlikely to work a moment later; and after a response, even
		// an invalid one, the record is probably stored.
		s.pool.CloseIdleConnections()
		out, err = s.send(ctx, in, r)
	}
	if err == nil && aws.ToString(out.SequenceNumber) == "" {
		err = errNoSequenceNumber
	}
	if err != nil {
		e := s.failed(ctx, try, "put record to "+stream, err)
		e.maybeStored = repeated || maybeStored
		return "", e
	}
	return aws.ToString(out.ShardId), nil
}

// fallback is the change from CBOR to JSON, of WireFormat Auto.
type fallback struct {
	enabled  bool
	notify   func(error)
	accepted atomic.Bool // a request in CBOR
	toJSON   atomic.Bool
}

// applies reports whether a request in CBOR that failed with err is repeated in JSON.
func (f *fallback) applies(err error) bool {
	return err != nil && f.enabled && refusesCBOR(err, !f.accepted.Load())
}

// stay makes all later requests JSON.
func (f *fallback) stay(refusal error) {
	if !f.toJSON.Swap(true) && f.notify != nil {
		f.notify(refusal)
	}
}

// errNoSequenceNumber is an error because only the sequence number proves that the
// record is stored.
var errNoSequenceNumber = errors.New("the response has no sequence number")

// Stream is the part of a stream's summary that matters for aggregated records.
type Stream struct {
	// DistributesRecords reports that the stream ignores partition keys, so
	// consumers drop aggregated records.
	DistributesRecords bool
	// MaxRecordBytes is the stream's limit for the data and the partition key of a
	// record together. It is 0 if the response does not contain the limit.
	MaxRecordBytes int
}

// Describe requests a stream's summary. It takes at most RequestTimeout. It needs the
// permission kinesis:DescribeStreamSummary. Its error is an *Error.
func (s *Sender) Describe(ctx context.Context, stream string) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, s.requestTimeout)
	defer cancel()
	ctx, try := newAttempt(ctx)
	in := &kinesis.DescribeStreamSummaryInput{}
	in.StreamName, in.StreamARN = streamID(stream)
	out, err := s.client.DescribeStreamSummary(ctx, in)
	if err != nil {
		return Stream{}, s.failed(ctx, try, "describe "+stream, err)
	}
	summary := out.StreamDescriptionSummary
	if summary == nil {
		return Stream{}, s.failed(ctx, try, "describe "+stream, errors.New("the response has no summary"))
	}
	return Stream{
		DistributesRecords: summary.RecordDistributionStrategy == types.RecordDistributionStrategyAuto,
		MaxRecordBytes:     int(aws.ToInt32(summary.MaxRecordSizeInKiB)) << 10,
	}, nil
}

// Close closes the connections and waits for the end of credential processes. No
// PutRecord or Describe may be running. A request for credentials can outlive its
// PutRecord; it ends within RequestTimeout of its start.
func (s *Sender) Close() {
	s.pool.CloseIdleConnections()
	s.loader.processes.Lock() // The end of the requests has killed them.
	defer s.loader.processes.Unlock()
}

// failed wraps an error of the SDK and prepares the Sender for the next request.
//
// It renews credentials that were rejected: they expired early, were revoked, or were
// replaced in a file.
//
// After a request without a response, it closes the idle connections. They lead to the
// same address. If that address is dead, each of them would cost another request its
// full time limit. New connections resolve the host name again.
func (s *Sender) failed(ctx context.Context, try *attempt, op string, err error) *Error {
	e := &Error{Cause: Classify(err), Op: op + " in " + s.Region(), Err: err, secrets: s.signer.secrets}
	var unsent *credentialsError
	if errors.As(err, &unsent) {
		e.files = s.signer.chain.failed()
	}
	e.clockOffset = time.Duration(try.clockOffset.Load())
	switch e.Cause {
	case CauseExpiredToken, CauseBadKey, CauseBadSignature:
		s.signer.renew(ctx, try)
		e.files = s.signer.chain.failed()
	case CauseTimeout, CauseConnection:
		s.pool.CloseIdleConnections()
	}
	return e
}
